-- (_names, _ended) number. Return whether all runs that have finished are in the indexes of their workflows, and the
-- workflows that have more such runs than that.
local found, missing = {}, 0
for status in pairs(ENDED) do missing = missing + redis.call('ZCARD', p .. 'status:' .. status) end
for _, name in ipairs(redis.call('SMEMBERS', p .. 'ends')) do
  local count = redis.call('ZCARD', p .. 'ended:' .. name)
  missing = missing - count
  if count > tonumber(ARGV[2]) then found[#found + 1] = name end
end
return { missing <= 0 and 1 or 0, found }
