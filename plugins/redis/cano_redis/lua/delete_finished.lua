-- (_names, _ended, _queue, _parts, _attributes, _chunks, _delete, _audit) op, now, channel, news, then for each run: id, time of an entry for the audit, entry
-- (or empty). Delete those of the runs that have finished and have no lease. Return their ids.
local gone, now, deleted = p .. 'gone:' .. ARGV[2], tonumber(ARGV[3]), {}
if redis.call('EXISTS', gone) == 1 then return redis.call('LRANGE', gone, 0, -1) end -- the answer was lost
for at = 6, #ARGV, 3 do
  local run = ARGV[at]
  local is = redis.pcall('HMGET', p .. 'run:' .. run, 'status', 'holder', 'expires')
  if ENDED[is[1] or ''] and not (is[2] and is[3] and not ((tonumber(is[3]) or 0) < now)) and forget(run) then
    if ARGV[at + 2] ~= '' then audit(ARGV[at + 1], ARGV[at + 2]) end
    redis.call('RPUSH', gone, run)
    deleted[#deleted + 1] = run
  end
end
if #deleted > 0 then
  redis.call('EXPIRE', gone, 3600)
  redis.pcall('PUBLISH', ARGV[4], ARGV[5])
end
return deleted
