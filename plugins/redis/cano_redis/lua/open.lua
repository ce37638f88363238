-- (_names) the schema's version. The one that is there; the given one where there was none.
redis.call('SET', p .. 'schema', ARGV[2], 'NX')
return redis.call('GET', p .. 'schema')
