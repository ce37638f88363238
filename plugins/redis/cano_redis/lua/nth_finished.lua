-- (_names, _order) workflow, number. Return time and id of the newest run of a workflow that has finished, after so many
-- newer ones; false if there is none.
local key, left = p .. 'ended:' .. ARGV[2], tonumber(ARGV[3])
local nth = redis.call('ZREVRANGE', key, left, left, 'WITHSCORES')
if #nth == 0 then return false end
local same = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, nth[2], nth[2])) do
  same[#same + 1] = { nth[2], string.sub(member, 18) }
end
table.sort(same, function(one, other) return before(other, one) end)
return same[left - redis.call('ZCOUNT', key, '(' .. nth[2], '+inf') + 1]
