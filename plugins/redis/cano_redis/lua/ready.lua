-- (_names, _records) now, number of records in an answer. Return the members that may be ready, oldest run first, and
-- the records of the first of them.
local members, seen = {}, {}
local function add(some)
  for _, member in ipairs(some) do
    if not seen[member] then
      seen[member] = true
      members[#members + 1] = member
    end
  end
end
add(redis.call('ZRANGEBYSCORE', p .. 'lease', '-inf', '(' .. ARGV[2]))
add(redis.call('ZRANGEBYSCORE', p .. 'wake', '-inf', ARGV[2]))
add(redis.call('SMEMBERS', p .. 'heard'))
table.sort(members)
return { members, records(members, 1, tonumber(ARGV[3])) }
