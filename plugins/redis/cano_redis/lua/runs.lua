-- (_names, _records) the most runs (-1: all), number of records in an answer, the indexes that must contain the runs.
-- Return the members, newest first, and the records of the first of them.
local limit, members = tonumber(ARGV[2]), nil
if #ARGV == 4 then
  members = redis.call('ZREVRANGE', p .. ARGV[4], 0, limit < 0 and -1 or limit - 1)
else
  local indexes = {}
  for at = 4, #ARGV do indexes[#indexes + 1] = p .. ARGV[at] end
  local count = #indexes
  indexes[count + 1], indexes[count + 2] = 'AGGREGATE', 'MAX'
  local found = redis.call('ZINTER', count, unpack(indexes))
  members = {}
  for at = #found, limit < 0 and 1 or math.max(1, #found - limit + 1), -1 do members[#members + 1] = found[at] end
end
return { members, records(members, 1, tonumber(ARGV[3])) }
