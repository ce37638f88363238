-- (_names) text. Move the numbers of all runs to where scripts of schema 1 do not find them. Their processes may still be
-- connected, and get an error, since the text has another type. Return all ids.
local ids, numbers = p .. 'ids', p .. 'numbers'
if redis.call('TYPE', ids).ok == 'hash' then redis.call('RENAMENX', ids, numbers) end
redis.call('SET', ids, ARGV[2])
return redis.call('HKEYS', numbers)
