-- (_names) The ids for which there are signals, but no run.
return redis.call('SMEMBERS', p .. 'orphans')
