-- (_names, _ended, _queue, _parts, _attributes, _chunks, _delete) id, op, channel, news. Return whether the run existed.
local gone = p .. 'gone:' .. ARGV[3]
if redis.call('EXISTS', gone) == 1 then return 1 end -- this call did it, and its answer was lost
if not forget(id) then return 0 end
redis.call('SET', gone, '1', 'EX', 3600)
redis.pcall('PUBLISH', ARGV[4], ARGV[5])
return 1
