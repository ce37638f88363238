-- (_names, _queue) id, signal, name, whether there is a payload, payload, channel, news, kind, limit of users' waiting ones
-- or ''. Return 1 if it is new, 0 if it is not, 2 if too many wait. `known` has all signals ever sent: 'w', a number to sort
-- by and the name if it waits; 'c' if it was consumed. Those that wait are counted in a key of their own, for an hour, once a
-- run has got as many as the limit.
local kind, signal, name = ARGV[9], ARGV[3], ARGV[4]
local known = p .. kind .. 'signals:' .. id
if redis.call('HEXISTS', known, signal) == 1 then return 0 end
local waiting, most = p .. 'waiting:' .. id, tonumber(ARGV[10])
local counted = kind == '' and redis.call('EXISTS', waiting) == 1
if most and redis.call('HLEN', p .. 'signals:' .. id) >= most then
  if not counted then
    local count = 0
    for _, how in ipairs(redis.call('HVALS', p .. 'signals:' .. id)) do
      if string.sub(how, 1, 1) == 'w' then count = count + 1 end
    end
    redis.call('SET', waiting, count, 'EX', 3600)
    counted = kind == ''
  end
  if tonumber(redis.call('GET', waiting)) >= most then return 2 end
end
local is = redis.call('HMGET', KEYS[1], 'n', 'status', 'awaited', 'awaits')
local count = redis.call('HLEN', p .. 'signals:' .. id) + redis.call('HLEN', p .. 'own-signals:' .. id)
redis.call('RPUSH', queue(kind, id, name), signal)
redis.call('HSET', known, signal, string.format('w%016.0f', count) .. name)
if counted then redis.call('INCR', waiting) end
if ARGV[5] == '1' then redis.call('HSET', p .. kind .. 'payloads:' .. id, signal, ARGV[6]) end
if redis.call('HEXISTS', p .. 'numbers', id) == 0 then
  redis.call('SADD', p .. 'orphans', id)
elseif is[2] == 'parked' and is[3] == name and (is[4] or '') == kind then
  redis.call('SADD', p .. 'heard', is[1] .. ':' .. id)
end
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return 1
