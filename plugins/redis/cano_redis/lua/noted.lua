-- (_names) status. Return whether all runs with it are in the indexes of runs that have finished.
local status = ARGV[2]
return redis.call('ZCARD', p .. 'status:' .. status) <= redis.call('ZCARD', p .. 'end:' .. status)
