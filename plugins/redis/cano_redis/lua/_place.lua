-- Update a run in the indexes of `ready`, from its record.
-- lease: running runs, by the expiry of their lease; wake: parked runs, by the time they wait for;
-- heard: parked runs whose awaited signal has come.
local function place(id)
  local is = redis.call('HMGET', p .. 'run:' .. id, 'n', 'status', 'holder', 'expires', 'until', 'awaited', 'awaits')
  local member, parked = is[1] .. ':' .. id, is[2] == 'parked'
  if is[2] == 'running' then
    redis.call('ZADD', p .. 'lease', is[3] and is[4] or '-inf', member)
  else
    redis.call('ZREM', p .. 'lease', member)
  end
  if parked and is[5] then
    redis.call('ZADD', p .. 'wake', is[5], member)
  else
    redis.call('ZREM', p .. 'wake', member)
  end
  if parked and is[6] and redis.call('EXISTS', queue(is[7] or '', id, is[6])) == 1 then
    redis.call('SADD', p .. 'heard', member)
  else
    redis.call('SREM', p .. 'heard', member)
  end
end
