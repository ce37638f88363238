-- (_names, _queue) id, signal, name, whether there is a payload, payload, channel, news, kind. `known` has all signals ever
-- sent: 'w', a number to sort by and the name if it waits; 'c' if it was consumed.
local kind, signal, name = ARGV[9], ARGV[3], ARGV[4]
local known = p .. kind .. 'signals:' .. id
if redis.call('HEXISTS', known, signal) == 1 then return 0 end
local is = redis.call('HMGET', KEYS[1], 'n', 'status', 'awaited', 'awaits')
local count = redis.call('HLEN', p .. 'signals:' .. id) + redis.call('HLEN', p .. 'own-signals:' .. id)
redis.call('RPUSH', queue(kind, id, name), signal)
redis.call('HSET', known, signal, string.format('w%016.0f', count) .. name)
if ARGV[5] == '1' then redis.call('HSET', p .. kind .. 'payloads:' .. id, signal, ARGV[6]) end
if redis.call('HEXISTS', p .. 'numbers', id) == 0 then
  redis.call('SADD', p .. 'orphans', id)
elseif is[2] == 'parked' and is[3] == name and (is[4] or '') == kind then
  redis.call('SADD', p .. 'heard', is[1] .. ':' .. id)
end
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return 1
