-- A value that was appended to is a list of parts: the value that was set before, then what was appended. In its place
-- in the data is IN_PARTS, and the hash `parted` has its key. A process of an earlier version, which knows no parts, does
-- not read it as a value; and if it sets the key, the list no longer counts.
local IN_PARTS = '\0parts'
local function parts_key(id, key) return p .. 'parts' .. #id .. ':' .. id .. key end
local function has_parts(id, key)
  return redis.call('HGET', p .. 'data:' .. id, key) == IN_PARTS and redis.call('HEXISTS', p .. 'parted:' .. id, key) == 1
end

-- Forget the parts of a key, if it has any.
local function drop_parts(id, key)
  if redis.call('HDEL', p .. 'parted:' .. id, key) == 1 then redis.call('DEL', parts_key(id, key)) end
end

-- Forget all parts of a run.
local function drop_all_parts(id)
  for _, key in ipairs(redis.call('HKEYS', p .. 'parted:' .. id)) do drop_parts(id, key) end
end
