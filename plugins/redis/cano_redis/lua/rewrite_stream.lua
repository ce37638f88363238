-- (_names, _chunks) id, chunks, each before its last offset and its channel. Replace those of these that the run has.
local n = redis.call('HGET', KEYS[1], 'n')
for at = 3, n and #ARGV or 0, 3 do
  local key, last = chunks_key(n, ARGV[at + 2]), ARGV[at + 1]
  if redis.call('ZREMRANGEBYSCORE', key, last, last) > 0 then redis.call('ZADD', key, last, ARGV[at]) end
end
return 1
