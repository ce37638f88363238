-- (_names, _queue, _place) id, op, holder, now, expires. Return the new token, or false if the run is held or
-- does not exist.
local is = redis.call('HMGET', KEYS[1], 'fence', 'holder', 'expires', 'claim')
if not is[1] then return false end
if is[4] == ARGV[3] then return is[1] end -- this claim succeeded, and its answer was lost
if is[2] and is[3] and not ((tonumber(is[3]) or 0) < tonumber(ARGV[5])) then return false end
local token = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'holder', ARGV[4], 'expires', ARGV[6], 'claim', ARGV[3])
place(id)
return redis.call('HGET', KEYS[1], 'fence') -- as text: a number would lose its last digits
