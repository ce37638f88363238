-- (_names) Return the ids that got signals but have no run.
return redis.call('SMEMBERS', p .. 'orphans')
