-- (_names) id. How many lines there should be, and the lines; false where there is no run.
if redis.call('HEXISTS', p .. 'ids', id) == 0 then return false end
return { redis.call('HGET', KEYS[1], 'lines') or '', redis.call('LRANGE', p .. 'lines:' .. id, 0, -1) }
