-- (_names) id, seq. Delete the entries of a history before the first of this transition, or of the newest one.
local lines, keys, before = p .. 'lines:' .. id, p .. 'keys:' .. id, tonumber(ARGV[3])
local count = redis.call('LLEN', lines)
if count < 2 or redis.call('HGET', KEYS[1], 'lines') ~= tostring(count) then return 0 end
local function seq(at) return tonumber(string.sub(redis.call('LINDEX', lines, at), 17, 32)) or -1 end
before = math.min(before, seq(-1))
local low, high = -1, count - 1
while high - low > 1 do
  local middle = math.floor((low + high) / 2)
  if seq(middle) < before then low = middle else high = middle end
end
if high == 0 then return 0 end
redis.call('LTRIM', lines, high, -1)
redis.call('HSET', KEYS[1], 'lines', count - high)
-- the order of keys is by the number of the commit that set them, which begins anew
local all = redis.call('ZRANGE', keys, 0, -1)
for at, key in ipairs(all) do redis.call('ZADD', keys, at - #all, key) end
return high
