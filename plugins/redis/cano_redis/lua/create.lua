-- (_names, _ended, _queue, _place, _parts, _set, _whole) id, created, status, workflow, whether there is a parent, parent, line,
-- channel, news, number of texts of the record, of the engine's own values and of the data, record, own, data, appended.
-- Return 1, or the existing run.
local there = whole(id)
if there then return there end
local created, fields = ARGV[3], 13 + ARGV[11]
local own = fields + ARGV[12]
local data = own + ARGV[13]
local n = string.format('%016.0f', redis.call('INCR', p .. 'count'))
local member = n .. ':' .. id
drop_all_parts(id)
redis.call('DEL', p .. 'lines:' .. id, p .. 'data:' .. id, p .. 'keys:' .. id, p .. 'own:' .. id)
redis.call('HSET', KEYS[1], 'n', n, 'lines', '1', unpack(ARGV, 14, fields))
set_own(id, fields + 1, own)
redis.call('RPUSH', p .. 'lines:' .. id, ARGV[8])
if #ARGV > own then set(id, 1, own + 1, data, #ARGV) end
redis.call('HSET', p .. 'numbers', id, n)
redis.call('ZADD', p .. 'runs', created, member)
redis.call('ZADD', p .. 'status:' .. ARGV[4], created, member)
redis.call('ZADD', p .. 'workflow:' .. ARGV[5], created, member)
if ENDED[ARGV[4]] then note_end(id, ARGV[4], created, member) end
if ARGV[6] == '1' then redis.call('ZADD', p .. 'parent:' .. ARGV[7], created, member) end
redis.call('SREM', p .. 'orphans', id)
place(id)
if ARGV[9] ~= '' then redis.pcall('PUBLISH', ARGV[9], ARGV[10]) end
return 1
