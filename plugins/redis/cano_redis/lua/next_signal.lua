-- (_names, _queue) id, name, kind. Return the oldest signal of the name with its record and payload, or false.
local kind = ARGV[4]
local signal = redis.call('LINDEX', queue(kind, id, ARGV[3]), 0)
if not signal then return false end
return {
  signal, redis.call('HGET', p .. kind .. 'signals:' .. id, signal),
  redis.call('HGET', p .. kind .. 'payloads:' .. id, signal),
}
