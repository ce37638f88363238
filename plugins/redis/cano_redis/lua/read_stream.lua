-- (_names, _chunks) id, channel, after, limit. Return the first `limit` chunks of a channel that end after an offset.
local n = redis.call('HGET', KEYS[1], 'n')
return n and redis.call('ZRANGEBYSCORE', chunks_key(n, ARGV[3]), '(' .. ARGV[4], '+inf', 'LIMIT', 0, ARGV[5]) or {}
