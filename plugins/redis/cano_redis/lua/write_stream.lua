-- (_names) id, token. Return 1, or the run's seq and token if the given one is stale.
local is = redis.call('HMGET', KEYS[1], 'seq', 'fence')
if is[2] ~= ARGV[3] then return is end
return 1
