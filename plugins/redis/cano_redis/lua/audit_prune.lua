-- (_names, _audit) time, the time of an entry, the entry. Delete the older entries, and return how many; add the entry.
local old, deleted, runs = '(' .. ARGV[2], 0, {}
while true do
  local some = redis.call('ZRANGEBYSCORE', p .. 'audit', '-inf', old, 'LIMIT', 0, 1000)
  if #some == 0 then break end
  for _, entry in ipairs(some) do runs[run_of(entry) or ''] = true end
  deleted = deleted + redis.call('ZREM', p .. 'audit', unpack(some))
end
for run in pairs(runs) do redis.call('ZREMRANGEBYSCORE', p .. 'audit:' .. run, '-inf', old) end
audit(ARGV[3], ARGV[4])
return deleted
