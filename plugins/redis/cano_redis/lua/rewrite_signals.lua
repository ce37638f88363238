-- (_names) id, then for each signal: kind, id, whether there is a payload, payload. Replace the payloads of those that wait.
for at = 3, #ARGV, 4 do
  local kind, signal, payloads = ARGV[at], ARGV[at + 1], p .. ARGV[at] .. 'payloads:' .. id
  if string.sub(redis.call('HGET', p .. kind .. 'signals:' .. id, signal) or '', 1, 1) == 'w' then
    if ARGV[at + 2] == '1' then
      redis.call('HSET', payloads, signal, ARGV[at + 3])
    else
      redis.call('HDEL', payloads, signal)
    end
  end
end
return 1
