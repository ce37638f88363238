-- (_names, _queue) id, then for entries of the history: place, old, new. Migrate a run or a recipient from schema 1:
-- the engine's own values, and the names and ids of its signals, began with NUL there. `fence` was `token`: without
-- it, scripts of that version refuse to write to the run, whose process may still be connected.
local token = redis.pcall('HGET', KEYS[1], 'token')
if type(token) == 'string' then
  redis.call('HSETNX', KEYS[1], 'fence', token)
  redis.call('HDEL', KEYS[1], 'token')
end
for at = 3, #ARGV, 3 do
  if redis.call('LINDEX', p .. 'lines:' .. id, ARGV[at]) == ARGV[at + 1] then
    redis.call('LSET', p .. 'lines:' .. id, ARGV[at], ARGV[at + 2])
  end
end
for _, key in ipairs(redis.call('HKEYS', p .. 'data:' .. id)) do
  if string.sub(key, 1, 1) == '\0' then
    redis.call('HSETNX', p .. 'own:' .. id, string.sub(key, 2), redis.call('HGET', p .. 'data:' .. id, key))
    redis.call('HDEL', p .. 'data:' .. id, key)
    redis.call('ZREM', p .. 'keys:' .. id, key)
  end
end
local known, moved = redis.call('HGETALL', p .. 'signals:' .. id), {}
for at = 1, #known, 2 do
  local signal, value = known[at], known[at + 1]
  -- consumed ones have no name: by their ids, only cancellations are the engine's own
  if string.sub(value, 18, 18) == '\0' or string.sub(signal, 1, 7) == '\0cancel' then
    moved[#moved + 1] = { string.sub(value, 1, 17), signal, string.sub(value, 18) }
  end
end
table.sort(moved, function(one, other) return one[1] < other[1] end)
for _, each in ipairs(moved) do
  local signal, name = each[2], each[3]
  local new = string.sub(signal, 1, 1) == '\0' and string.sub(signal, 2) or signal
  local payload = redis.call('HGET', p .. 'payloads:' .. id, signal)
  redis.call('HDEL', p .. 'signals:' .. id, signal)
  redis.call('HDEL', p .. 'payloads:' .. id, signal)
  redis.call('LREM', queue('', id, name), 1, signal)
  if redis.call('HSETNX', p .. 'own-signals:' .. id, new, each[1] .. string.sub(name, 2)) == 1 and name ~= '' then
    redis.call('RPUSH', queue('own-', id, string.sub(name, 2)), new)
    if payload then redis.call('HSET', p .. 'own-payloads:' .. id, new, payload) end
  end
end
return 1
