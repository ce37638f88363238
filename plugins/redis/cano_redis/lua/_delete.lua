-- Delete a run with its data, history, streams and signals. Return whether it existed.
local function forget(id)
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
  redis.call('DEL', p .. 'waiting:' .. id)
  redis.call('SREM', p .. 'orphans', id)
  local n = redis.call('HGET', p .. 'numbers', id)
  if not n then return false end
  drop_attributes(id)
  local member = n .. ':' .. id
  drop_noted(id, member)
  local is = redis.pcall('HMGET', p .. 'run:' .. id, 'workflow', 'parent')
  redis.call('ZREM', p .. 'runs', member)
  if is[1] then redis.call('ZREM', p .. 'workflow:' .. is[1], member) end
  -- of a corrupt run the workflow is not known
  for _, workflow in ipairs(is[1] and { is[1] } or redis.call('SMEMBERS', p .. 'ends')) do drop_end(workflow, member) end
  if is[2] then redis.call('ZREM', p .. 'parent:' .. is[2], member) end
  for _, status in ipairs({ 'running', 'parked', 'interrupted', 'succeeded', 'failed', 'cancelled' }) do
    redis.call('ZREM', p .. 'status:' .. status, member)
  end
  redis.call('ZREM', p .. 'lease', member)
  redis.call('ZREM', p .. 'wake', member)
  redis.call('SREM', p .. 'heard', member)
  drop_all_parts(id)
  drop_streams(n)
  redis.call('DEL', p .. 'run:' .. id, p .. 'lines:' .. id, p .. 'data:' .. id, p .. 'keys:' .. id, p .. 'own:' .. id)
  redis.call('HDEL', p .. 'numbers', id)
  return true
end
