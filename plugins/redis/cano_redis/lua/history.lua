-- (_names) id, after, limit. Return the number of entries that there should be, their number, the position of the first
-- entry whose seq is greater than `after`, and up to `limit` entries from there; false if the run does not exist.
if redis.call('HEXISTS', p .. 'numbers', id) == 0 then return false end
local lines, after, limit = p .. 'lines:' .. id, tonumber(ARGV[3]), tonumber(ARGV[4])
local count = redis.call('LLEN', lines)
local low, high = -1, after < 0 and 0 or count
while high - low > 1 do
  local middle = math.floor((low + high) / 2)
  local seq = tonumber(string.sub(redis.call('LINDEX', lines, middle), 17, 32))
  if seq and seq <= after then low = middle else high = middle end
end
local some = limit == 0 and {} or redis.call('LRANGE', lines, high, limit < 0 and -1 or high + limit - 1)
return { redis.call('HGET', KEYS[1], 'lines') or '', count, high, some }
