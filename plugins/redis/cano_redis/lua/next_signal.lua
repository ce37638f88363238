-- (_names) id, name. The oldest signal of the name, with what is known of it, and its payload; false where there is none.
local signal = redis.call('LINDEX', p .. 'queue:' .. id .. '\0' .. ARGV[3], 0)
if not signal then return false end
return { signal, redis.call('HGET', p .. 'signals:' .. id, signal), redis.call('HGET', p .. 'payloads:' .. id, signal) }
