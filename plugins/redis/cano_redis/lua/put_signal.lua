-- (_names, _queue) id, signal, name, whether there is a payload, payload, channel, news. `known` has all signals ever
-- sent: 'w', a number to sort by and the name if it waits; 'c' if it was consumed.
local known, signal, name = p .. 'signals:' .. id, ARGV[3], ARGV[4]
if redis.call('HEXISTS', known, signal) == 1 then return 0 end
local is = redis.call('HMGET', KEYS[1], 'n', 'status', 'awaited')
redis.call('RPUSH', queue(id, name), signal)
redis.call('HSET', known, signal, string.format('w%016.0f', redis.call('HLEN', known)) .. name)
if ARGV[5] == '1' then redis.call('HSET', p .. 'payloads:' .. id, signal, ARGV[6]) end
if redis.call('HEXISTS', p .. 'ids', id) == 0 then
  redis.call('SADD', p .. 'orphans', id)
elseif is[2] == 'parked' and is[3] == name then
  redis.call('SADD', p .. 'heard', is[1] .. ':' .. id)
end
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return 1
