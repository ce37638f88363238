-- Runs that have finished are members of an index of their workflow; the set `ends` has the workflows that have some.
local ENDED = { succeeded = true, failed = true, cancelled = true }
local function note_end(workflow, created, member)
  redis.call('ZADD', p .. 'ended:' .. workflow, created, member)
  redis.call('SADD', p .. 'ends', workflow)
end

local function drop_end(workflow, member)
  redis.call('ZREM', p .. 'ended:' .. workflow, member)
  if redis.call('EXISTS', p .. 'ended:' .. workflow) == 0 then redis.call('SREM', p .. 'ends', workflow) end
end
