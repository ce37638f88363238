-- Runs that have finished are members of more indexes: `ended:WORKFLOW`, `outcome:STATUS:STATE` and, if they have failed,
-- `error:CLASS` of the error and of its cause, by their creation; and `end:STATUS` by their end. The set `ends` has the
-- workflows that have some, and the hash `noted` the last three kinds of a run's indexes, by its id.
local ENDED = { succeeded = true, failed = true, cancelled = true }

-- Return the classes of a stored error, which is the first part of `extra`.
local function classes(extra)
  local right, parts = pcall(cmsgpack.unpack, extra)
  local error = right and type(parts) == 'table' and parts[1]
  if type(error) ~= 'table' then return {} end
  local cause = type(error.cause) == 'string' and string.match(error.cause, '^[^:]*') or ''
  return { tostring(error.type or 'None'), cause ~= '' and cause or nil }
end

local function drop_noted(id, member)
  local noted = redis.call('HGET', p .. 'noted', id)
  for _, name in ipairs(noted and cmsgpack.unpack(noted) or {}) do redis.call('ZREM', p .. name, member) end
  if noted then redis.call('HDEL', p .. 'noted', id) end
end

local function note_end(id, status, created, member)
  drop_noted(id, member)
  local is = redis.pcall('HMGET', p .. 'run:' .. id, 'workflow', 'state', 'updated', 'extra')
  local names = {}
  if is[2] then names[1] = 'outcome:' .. status .. ':' .. is[2] end
  for _, class in ipairs(status == 'failed' and classes(is[4]) or {}) do names[#names + 1] = 'error:' .. class end
  for _, name in ipairs(names) do redis.call('ZADD', p .. name, created, member) end
  names[#names + 1] = 'end:' .. status
  redis.call('ZADD', p .. names[#names], tonumber(is[3]) and is[3] or created, member)
  redis.call('HSET', p .. 'noted', id, cmsgpack.pack(names))
  if is[1] then
    redis.call('ZADD', p .. 'ended:' .. is[1], created, member)
    redis.call('SADD', p .. 'ends', is[1])
  end
end

local function drop_end(workflow, member)
  redis.call('ZREM', p .. 'ended:' .. workflow, member)
  if redis.call('EXISTS', p .. 'ended:' .. workflow) == 0 then redis.call('SREM', p .. 'ends', workflow) end
end
