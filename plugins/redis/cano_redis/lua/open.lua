-- (_names) the schema's version. Return the stored version; store the given one if there was none.
redis.call('SET', p .. 'schema', ARGV[2], 'NX')
return redis.call('GET', p .. 'schema')
