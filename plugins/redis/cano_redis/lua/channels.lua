-- (_names, _chunks) id. Return the names of the channels of a run.
local n = redis.call('HGET', KEYS[1], 'n')
return n and redis.call('SMEMBERS', channels_key(n)) or {}
