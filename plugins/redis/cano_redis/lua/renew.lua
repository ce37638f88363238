-- (_names) holder, expires, then ids, each with its token. Return the ids of the lost leases.
local holder, expires, lost = ARGV[2], ARGV[3], {}
for at = 4, #ARGV, 2 do
  local run = p .. 'run:' .. ARGV[at]
  local is = redis.pcall('HMGET', run, 'fence', 'holder', 'status', 'n')
  if not is.err and is[1] == ARGV[at + 1] and is[2] == holder then
    redis.call('HSET', run, 'expires', expires)
    if is[3] == 'running' then redis.call('ZADD', p .. 'lease', expires, is[4] .. ':' .. ARGV[at]) end
  else
    lost[#lost + 1] = ARGV[at]
  end
end
return lost
