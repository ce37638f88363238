-- Search attributes. A run's are in a hash. Each name has a sorted set in the order of bytes: of the value, in which NUL
-- is followed by 255, two NULs, and the run's number and id. So a range of values is a range of members.
local function escaped(value) return (string.gsub(value, '%z', '\0\255')) end

-- Forget the attributes of a run.
local function drop_attributes(id)
  local had = redis.call('HGETALL', p .. 'attributes:' .. id)
  if #had == 0 then return end
  local member = redis.call('HGET', p .. 'numbers', id) .. ':' .. id
  for at = 1, #had, 2 do
    local key = p .. 'attribute:' .. had[at]
    redis.call('ZREM', key, escaped(had[at + 1]) .. '\0\0' .. member)
    if redis.call('EXISTS', key) == 0 then redis.call('SREM', p .. 'attribute-names', had[at]) end
  end
  redis.call('DEL', p .. 'attributes:' .. id)
end

-- Set the attributes of a run, in place of those that it had: a list of names, each with its value.
local function set_attributes(id, given)
  drop_attributes(id)
  if #given == 0 then return end
  local member = redis.call('HGET', p .. 'numbers', id) .. ':' .. id
  redis.call('HSET', p .. 'attributes:' .. id, unpack(given))
  for at = 1, #given, 2 do
    redis.call('ZADD', p .. 'attribute:' .. given[at], 0, escaped(given[at + 1]) .. '\0\0' .. member)
    redis.call('SADD', p .. 'attribute-names', given[at])
  end
end
