-- (_names, _queue) id, name. Return the oldest signal of the name with its record and payload, or false.
local signal = redis.call('LINDEX', queue(id, ARGV[3]), 0)
if not signal then return false end
return { signal, redis.call('HGET', p .. 'signals:' .. id, signal), redis.call('HGET', p .. 'payloads:' .. id, signal) }
