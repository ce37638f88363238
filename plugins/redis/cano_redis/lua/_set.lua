-- Set the engine's own values of a run: ARGV[first..last] are names, each with its value.
local function set_own(id, first, last)
  for from = first, last, 1000 do
    redis.call('HSET', p .. 'own:' .. id, unpack(ARGV, from, math.min(from + 999, last)))
  end
end

-- Append to values of a run: ARGV[first..last] are keys, each with a part. Return the keys.
local function append(id, first, last)
  local known = {}
  for at = first, last, 2 do
    local key = ARGV[at]
    local list = parts_key(id, key)
    if not known[key] and not has_parts(id, key) then
      local old = redis.call('HGET', p .. 'data:' .. id, key)
      redis.call('DEL', list)
      if old then redis.call('RPUSH', list, old) end
      redis.call('HSET', p .. 'parted:' .. id, key, '1')
    end
    known[key] = true
    redis.call('RPUSH', list, ARGV[at + 1])
  end
  return known
end

-- Set keys of a run: ARGV[first..last] are keys, each with its value; up to `appended` are keys, each with a part, whose
-- values are ignored. `count` is the number of the commit; keys keep the order in which they were first set.
local function set(id, count, first, last, appended)
  local in_parts = append(id, last + 1, appended)
  local any = redis.call('EXISTS', p .. 'parted:' .. id) == 1
  for from = first, last, 1000 do
    local to = math.min(from + 999, last)
    local order = {}
    for at = from, to, 2 do
      if any and in_parts[ARGV[at]] then
        ARGV[at + 1] = IN_PARTS
      elseif any then
        drop_parts(id, ARGV[at])
      end
      order[#order + 1] = string.format('%.0f', count * 1048576 + (at - first) / 2)
      order[#order + 1] = ARGV[at]
    end
    redis.call('HSET', p .. 'data:' .. id, unpack(ARGV, from, to))
    redis.call('ZADD', p .. 'keys:' .. id, 'NX', unpack(order))
  end
end
