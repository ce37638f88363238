-- (_names) first, last. Note the workflows of these runs, by their ranks, as earlier versions did not. Return their number.
local members = redis.call('ZRANGE', p .. 'runs', ARGV[2], ARGV[3])
for _, member in ipairs(members) do
  local workflow = redis.pcall('HGET', p .. 'run:' .. string.sub(member, 18), 'workflow')
  if type(workflow) == 'string' then redis.call('SADD', p .. 'workflows', workflow) end
end
return #members
