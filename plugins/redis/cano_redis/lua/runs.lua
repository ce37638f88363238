-- (_names, _order, _records) the most runs (-1: all), number of records in an answer, the time and id of the run after which the
-- list begins (or empty), the order, the indexes that must contain the runs, of which the first has the times of the list.
-- Return the members in the order, of those of the same time by their ids, and the records of the first of them.
local limit, created, after = tonumber(ARGV[2]), ARGV[4], ARGV[5]
local rising = string.sub(ARGV[6], 1, 1) ~= '-'
local command, far = rising and 'ZRANGEBYSCORE' or 'ZREVRANGEBYSCORE', rising and '+inf' or '-inf'

local found -- members, each followed by its score, in the order of the list
if #ARGV == 7 then
  local key, from = p .. ARGV[7], created ~= '' and created or rising and '-inf' or '+inf'
  found = redis.call(command, key, from, far, 'WITHSCORES', 'LIMIT', 0, limit)
  if limit > 0 and #found == 2 * limit then
    local function all(score) return redis.call('ZREVRANGEBYSCORE', key, score, score, 'WITHSCORES') end
    local first, last, rest = {}, found[#found], {}
    if created ~= '' then
      first = all(created)
      found = redis.call(command, key, '(' .. created, far, 'WITHSCORES', 'LIMIT', 0, limit)
      last = found[#found]
    end
    for at = 1, #found, 2 do
      if found[at + 1] ~= last then
        first[#first + 1] = found[at]
        first[#first + 1] = found[at + 1]
      end
    end
    if last then rest = all(last) end
    for at = 1, #rest do first[#first + 1] = rest[at] end
    found = first
  end
else
  local arguments = { #ARGV - 6 }
  for at = 7, #ARGV do arguments[#arguments + 1] = p .. ARGV[at] end
  arguments[#arguments + 1] = 'WEIGHTS'
  for at = 7, #ARGV do arguments[#arguments + 1] = at == 7 and 1 or 0 end
  arguments[#arguments + 1] = 'WITHSCORES'
  found = redis.call('ZINTER', unpack(arguments))
  if not rising then
    local oldest = found
    found = {}
    for at = #oldest - 1, 1, -2 do
      found[#found + 1] = oldest[at]
      found[#found + 1] = oldest[at + 1]
    end
  end
end

local members, start, from = {}, tonumber(created), 1
while from <= #found and (limit < 0 or #members < limit) do
  local same, score = {}, found[from + 1]
  while found[from + 1] == score and from <= #found do
    local number, id = tonumber(score), string.sub(found[from], 18)
    if not start or comes_after(rising, number, id, start, after) then same[#same + 1] = found[from] end
    from = from + 2
  end
  if #same > 1 then
    table.sort(same, function(a, b)
      if rising then a, b = b, a end
      return less(string.sub(b, 18), string.sub(a, 18))
    end)
  end
  for _, member in ipairs(same) do members[#members + 1] = member end
end
if limit >= 0 then
  for at = #members, limit + 1, -1 do members[at] = nil end
end
return { members, records(members, 1, tonumber(ARGV[3])) }
