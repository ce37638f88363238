-- Return id and record of the members `first` to `last` of an index. A corrupt record is false.
local function records(members, first, last)
  local found = {}
  for at = first, math.min(last, #members) do
    local id = string.sub(members[at], 18)
    if redis.call('HGET', p .. 'numbers', id) == string.sub(members[at], 1, 16) then
      local record = redis.pcall('HGETALL', p .. 'run:' .. id)
      found[#found + 1] = id
      found[#found + 1] = not record.err and record
    end
  end
  return found
end
