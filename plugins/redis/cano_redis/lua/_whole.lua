-- Return a run with all its data and the engine's own values, or false if it does not exist.
local function whole(id)
  local record = redis.call('HGETALL', p .. 'run:' .. id)
  if #record == 0 and redis.call('HEXISTS', p .. 'numbers', id) == 0 then return false end
  local parts = {}
  for _, key in ipairs(redis.call('HKEYS', p .. 'parted:' .. id)) do
    if has_parts(id, key) then
      parts[#parts + 1] = key
      parts[#parts + 1] = redis.call('LRANGE', parts_key(id, key), 0, -1)
    end
  end
  return {
    record, redis.call('ZRANGE', p .. 'keys:' .. id, 0, -1), redis.call('HGETALL', p .. 'data:' .. id),
    redis.call('LLEN', p .. 'lines:' .. id), redis.call('HGETALL', p .. 'own:' .. id), parts,
  }
end
