-- Add an entry to the audit: to all entries, and to those of its run. Both are sorted by time. An entry begins with the
-- id of its call, so that a repetition adds none; then the length of the run's id (or -), a colon, and that id.
local function run_of(entry)
  local size, first = string.match(string.sub(entry, 17, 40), '^(%d+):()')
  return size and string.sub(entry, 16 + first, 15 + first + size)
end
local function audit(at, entry)
  redis.call('ZADD', p .. 'audit', at, entry)
  local run = run_of(entry)
  if run then redis.call('ZADD', p .. 'audit:' .. run, at, entry) end
end
