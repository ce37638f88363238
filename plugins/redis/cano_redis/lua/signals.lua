-- (_names) id. Return all signals of a run and the payloads of the waiting ones; then the same of the engine's own.
return {
  redis.call('HGETALL', p .. 'signals:' .. id), redis.call('HGETALL', p .. 'payloads:' .. id),
  redis.call('HGETALL', p .. 'own-signals:' .. id), redis.call('HGETALL', p .. 'own-payloads:' .. id),
}
