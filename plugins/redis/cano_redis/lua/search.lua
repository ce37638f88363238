-- (_names, _order, _records, _attributes) the most runs (-1: all), number of records in an answer (0: only count), the time
-- and id of the run after which the list begins (or empty), the state, the bounds of `created` and `updated` (or empty),
-- the order, number of indexes that must contain the runs, these; number of attributes; for each its name, the number of
-- ranges, and these. Return the number of runs; or the members in the order, and the records of the first of them.
local limit, page = tonumber(ARGV[2]), tonumber(ARGV[3])
local start, after, state = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local rising, by_update = string.sub(ARGV[11], 1, 1) ~= '-', string.sub(ARGV[11], -7) == 'updated'
local bounds, indexes, at = {}, {}, 13
for each = 7, 10 do bounds[each - 6] = tonumber(ARGV[each]) end
for each = 1, tonumber(ARGV[12]) do
  indexes[each] = p .. ARGV[at]
  at = at + 1
end
local wanted = tonumber(ARGV[at])
at = at + 1

local met, members = {}, {}
for number = 1, wanted do
  local key, ranges = p .. 'attribute:' .. ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  for _ = 1, ranges do
    local some = redis.call('ZRANGEBYLEX', key, '[' .. escaped(ARGV[at]), '(' .. escaped(ARGV[at + 1]))
    at = at + 2
    for _, each in ipairs(some) do
      local _, last = string.find(each, '\0\0', 1, true)
      local member = string.sub(each, last + 1)
      if (met[member] or 0) == number - 1 then
        met[member] = number
        if number == wanted then members[#members + 1] = member end
      end
    end
  end
end
if wanted == 0 and page == 0 and #indexes < 2 and table.concat(ARGV, '', 4, 10) == '' then
  local all = redis.call('ZCARD', indexes[1] or (p .. 'runs'))
  return limit >= 0 and math.min(limit, all) or all
end
if wanted == 0 then members = redis.call('ZRANGE', indexes[1] or (p .. 'runs'), 0, -1) end

local found = {}
for _, member in ipairs(members) do
  local created = redis.call('ZSCORE', p .. 'runs', member)
  local right, number, id = created, tonumber(created), string.sub(member, 18)
  for _, index in ipairs(indexes) do right = right and redis.call('ZSCORE', index, member) end
  right = right and (not bounds[1] or number > bounds[1]) and (not bounds[2] or number < bounds[2])
  if right and (by_update or state ~= '' or bounds[3] or bounds[4]) then
    local is = redis.pcall('HMGET', p .. 'run:' .. id, 'state', 'updated')
    local updated = tonumber(is[2]) or 0
    right = (state == '' or is[1] == state) and (not bounds[3] or updated > bounds[3])
      and (not bounds[4] or updated < bounds[4])
    if by_update then created, number = is[2] or '0', updated end
  end
  right = right and (not start or comes_after(rising, number, id, start, after))
  if right then found[#found + 1] = { created, id, member } end
end
if page == 0 then return limit >= 0 and math.min(limit, #found) or #found end
table.sort(found, function(one, other)
  if rising then return before(one, other) end
  return before(other, one)
end)
local first = {}
for each = 1, limit >= 0 and math.min(limit, #found) or #found do first[each] = found[each][3] end
return { first, records(first, 1, page) }
