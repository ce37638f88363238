-- (_names) id. Return all signals of a run, and the payloads of the waiting ones.
return { redis.call('HGETALL', p .. 'signals:' .. id), redis.call('HGETALL', p .. 'payloads:' .. id) }
