-- (_names) "audit", or "audit:" with the run's id; the most entries, or 0 for all. Return the newest ones, newest first.
return redis.call('ZREVRANGE', p .. ARGV[2], 0, ARGV[3] - 1)
