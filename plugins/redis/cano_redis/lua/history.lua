-- (_names) id. Return the number of entries that there should be, and the entries; false if the run does not exist.
if redis.call('HEXISTS', p .. 'numbers', id) == 0 then return false end
return { redis.call('HGET', KEYS[1], 'lines') or '', redis.call('LRANGE', p .. 'lines:' .. id, 0, -1) }
