-- (_names, _records) now, number of records in an answer, whether runs of all workflows are wanted, names of the wanted
-- workflows. Return the members that may be ready, oldest run first, and the records of the first of them.
local members, seen, all, wanted = {}, {}, ARGV[4] == '1', {}
for at = 5, #ARGV do wanted[ARGV[at]] = true end
local function add(some)
  for _, member in ipairs(some) do
    if not seen[member] then
      seen[member] = true
      local workflow = not all and redis.pcall('HGET', p .. 'run:' .. string.sub(member, 18), 'workflow')
      if all or type(workflow) ~= 'string' or wanted[workflow] then
        members[#members + 1] = member
      end
    end
  end
end
add(redis.call('ZRANGEBYSCORE', p .. 'lease', '-inf', '(' .. ARGV[2]))
add(redis.call('ZRANGEBYSCORE', p .. 'wake', '-inf', ARGV[2]))
add(redis.call('SMEMBERS', p .. 'heard'))
table.sort(members)
return { members, records(members, 1, tonumber(ARGV[3])) }
