-- Compare by bytes. Lua compares by the server's locale.
local function less(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Return whether a place comes after another one in a list that begins with the first, or with the last.
local function comes_after(rising, time, id, other_time, other_id)
  if rising then time, id, other_time, other_id = other_time, other_id, time, id end
  return time < other_time or (time == other_time and less(id, other_id))
end

-- Return {time, id} of the members of an index that a command answers with their times, at most `most` of them, and all
-- others with the last time; and whether there may be more. Sort them by time and id, the first or the last first.
local function places(key, command, from, to, most, first)
  local found = redis.call(command, key, from, to, 'WITHSCORES', 'LIMIT', 0, most)
  local more, last = #found == 2 * most, found[#found]
  local sorted = {}
  for at = 1, #found, 2 do
    if not (more and found[at + 1] == last) then sorted[#sorted + 1] = { found[at + 1], string.sub(found[at], 18) } end
  end
  for _, member in ipairs(more and redis.call('ZRANGEBYSCORE', key, last, last) or {}) do
    sorted[#sorted + 1] = { last, string.sub(member, 18) }
  end
  return sorted, more and last
end

-- Return whether the place of a run comes before another's.
local function before(one, other)
  local x, y = tonumber(one[1]), tonumber(other[1])
  if x ~= y then return x < y end
  return less(one[2], other[2])
end
