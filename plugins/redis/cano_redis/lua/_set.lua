-- Set the engine's own values of a run: ARGV[first..last] are names, each with its value.
local function set_own(id, first, last)
  for from = first, last, 1000 do
    redis.call('HSET', p .. 'own:' .. id, unpack(ARGV, from, math.min(from + 999, last)))
  end
end

-- Set keys of a run: ARGV[first..last] are keys, each with its value. `count` is the number of the commit; keys keep
-- the order in which they were first set.
local function set(id, count, first, last)
  for from = first, last, 1000 do
    local to = math.min(from + 999, last)
    redis.call('HSET', p .. 'data:' .. id, unpack(ARGV, from, to))
    local order = {}
    for at = from, to, 2 do
      order[#order + 1] = string.format('%.0f', count * 1048576 + (at - first) / 2)
      order[#order + 1] = ARGV[at]
    end
    redis.call('ZADD', p .. 'keys:' .. id, 'NX', unpack(order))
  end
end
