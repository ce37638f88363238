-- (_names) number. Return whether all workflows are known, and those of which more runs than that have finished.
local found, runs = {}, 0
for _, name in ipairs(redis.call('SMEMBERS', p .. 'workflows')) do
  local key = p .. 'workflow:' .. name
  local count = redis.call('ZCARD', key)
  runs = runs + count
  if count > tonumber(ARGV[2]) then
    for _, status in ipairs({ 'running', 'parked', 'interrupted' }) do
      local unfinished = redis.pcall('ZINTERCARD', 2, key, p .. 'status:' .. status) -- Redis 6.2 lacks it
      if type(unfinished) == 'number' then count = count - unfinished end
    end
    if count > tonumber(ARGV[2]) then found[#found + 1] = name end
  end
end
return { runs >= redis.call('ZCARD', p .. 'runs') and 1 or 0, found }
