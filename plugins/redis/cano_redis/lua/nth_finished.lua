-- (_names, _order) workflow, number. Return time and id of the newest run of a workflow that has finished, after so many
-- newer ones; false if there is none.
local key, left, to = p .. 'workflow:' .. ARGV[2], tonumber(ARGV[3]), '+inf'
local ended = { succeeded = true, failed = true, cancelled = true }
while to do
  local some, last = places(key, 'ZREVRANGEBYSCORE', to, '-inf', 500)
  table.sort(some, function(one, other) return before(other, one) end)
  for _, place in ipairs(some) do
    local status = redis.pcall('HGET', p .. 'run:' .. place[2], 'status')
    if type(status) == 'string' and ended[status] then
      if left == 0 then return place end
      left = left - 1
    end
  end
  to = last and '(' .. last
end
return false
