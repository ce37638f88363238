-- (_names) id. All that is known of a run's signals, and the payloads of those that wait.
return { redis.call('HGETALL', p .. 'signals:' .. id), redis.call('HGETALL', p .. 'payloads:' .. id) }
