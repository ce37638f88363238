-- Return a run with all its data and the engine's own values, or false if it does not exist.
local function whole(id)
  local record = redis.call('HGETALL', p .. 'run:' .. id)
  if #record == 0 and redis.call('HEXISTS', p .. 'numbers', id) == 0 then return false end
  return {
    record, redis.call('ZRANGE', p .. 'keys:' .. id, 0, -1), redis.call('HGETALL', p .. 'data:' .. id),
    redis.call('LLEN', p .. 'lines:' .. id), redis.call('HGETALL', p .. 'own:' .. id),
  }
end
