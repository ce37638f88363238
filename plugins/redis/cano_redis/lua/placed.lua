-- (_names, _order) the time and id of the run after which the list begins, the latest time, the most runs, indexes. Return
-- time, id and record of the runs in these indexes, the first first. A corrupt record is false.
local after, latest, most = { ARGV[2], ARGV[3] }, ARGV[4], tonumber(ARGV[5])
if tonumber(after[1]) > tonumber(latest) then return {} end
local found, answer = {}, {}
for at = 6, #ARGV do
  local key = p .. ARGV[at]
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, after[1], after[1])) do
    local place = { after[1], string.sub(member, 18) }
    if less(after[2], place[2]) then found[#found + 1] = place end
  end
  for _, place in ipairs((places(key, 'ZRANGEBYSCORE', '(' .. after[1], latest, most))) do
    found[#found + 1] = place
  end
end
table.sort(found, before)
for at = 1, math.min(most, #found) do
  local record = redis.pcall('HGETALL', p .. 'run:' .. found[at][2])
  answer[#answer + 1] = found[at][1]
  answer[#answer + 1] = found[at][2]
  answer[#answer + 1] = not record.err and record
end
return answer
