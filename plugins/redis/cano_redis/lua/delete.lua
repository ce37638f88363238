-- (_names, _queue, _parts) id, op, channel, news. Return whether the run existed.
local gone = p .. 'gone:' .. ARGV[3]
if redis.call('EXISTS', gone) == 1 then return 1 end -- this call did it, and its answer was lost
for _, kind in ipairs({ '', 'own-' }) do
  local signals = redis.pcall('HGETALL', p .. kind .. 'signals:' .. id)
  if not signals.err then
    for at = 2, #signals, 2 do
      if string.sub(signals[at], 1, 1) == 'w' then
        redis.call('DEL', queue(kind, id, string.sub(signals[at], 18)))
      end
    end
  end
  redis.call('DEL', p .. kind .. 'signals:' .. id, p .. kind .. 'payloads:' .. id)
end
redis.call('SREM', p .. 'orphans', id)
local n = redis.call('HGET', p .. 'numbers', id)
if not n then return 0 end
local member = n .. ':' .. id
local is = redis.pcall('HMGET', KEYS[1], 'workflow', 'parent')
redis.call('ZREM', p .. 'runs', member)
if is[1] then redis.call('ZREM', p .. 'workflow:' .. is[1], member) end
if is[2] then redis.call('ZREM', p .. 'parent:' .. is[2], member) end
for _, status in ipairs({ 'running', 'parked', 'interrupted', 'succeeded', 'failed', 'cancelled' }) do
  redis.call('ZREM', p .. 'status:' .. status, member)
end
redis.call('ZREM', p .. 'lease', member)
redis.call('ZREM', p .. 'wake', member)
redis.call('SREM', p .. 'heard', member)
drop_all_parts(id)
redis.call('DEL', KEYS[1], p .. 'lines:' .. id, p .. 'data:' .. id, p .. 'keys:' .. id, p .. 'own:' .. id)
redis.call('HDEL', p .. 'numbers', id)
redis.call('SET', gone, '1', 'EX', 3600)
redis.pcall('PUBLISH', ARGV[4], ARGV[5])
return 1
