-- (_names, _queue) id. Migrate the signals to one wait of a run or a recipient: their ids began with NUL, "wait", and the
-- wait's seq. Their new field cannot be UTF-8, as ids are.
for _, signal in ipairs(redis.call('HKEYS', p .. 'signals:' .. id)) do
  local to, its = string.match(signal, '^%zwait (%d+) (.*)$')
  if to then
    local new, value = '\255' .. to .. ' ' .. its, redis.call('HGET', p .. 'signals:' .. id, signal)
    local payload = redis.call('HGET', p .. 'payloads:' .. id, signal)
    redis.call('HSET', p .. 'signals:' .. id, new, value)
    if payload then redis.call('HSET', p .. 'payloads:' .. id, new, payload) end
    redis.call('HDEL', p .. 'signals:' .. id, signal)
    redis.call('HDEL', p .. 'payloads:' .. id, signal)
    if string.sub(value, 1, 1) == 'w' then
      local waiting = queue('', id, string.sub(value, 18))
      for place, each in ipairs(redis.call('LRANGE', waiting, 0, -1)) do
        if each == signal then redis.call('LSET', waiting, place - 1, new) end
      end
    end
  end
end
return 1
