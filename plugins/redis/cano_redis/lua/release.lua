-- (_names, _queue, _place) id, token, channel, news
local is = redis.call('HMGET', KEYS[1], 'fence', 'holder')
if is[1] ~= ARGV[3] or not is[2] then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'expires')
place(id)
redis.pcall('PUBLISH', ARGV[4], ARGV[5])
return 1
