-- (_names, _ended, _queue, _place, _parts, _set) id, op, token, expected seq, seq, status, state, at, extra, line, plain, number
-- of changed texts, number of appended texts, changed, appended; the rest if it is not plain. Return 1, or the run's seq and token if the commit is stale.
local op, seq, status, plain = ARGV[3], ARGV[6], ARGV[7], ARGV[12] == '1'
local run, lines = KEYS[1], p .. 'lines:' .. id

-- Whether this commit was applied, and its answer was lost: then it is one of the newest entries.
local function made()
  local floor = tonumber(plain and seq or ARGV[5])
  for last = -1, -1000000000, -20 do
    local some = redis.call('LRANGE', lines, last - 19, last)
    for at = #some, 1, -1 do
      if string.sub(some[at], 1, 16) == op then return true end
      if tonumber(string.sub(some[at], 17, 32)) < floor then return false end
    end
    if #some < 20 then return false end
  end
end

local is = redis.call('HMGET', run, 'seq', 'fence', 'status')
local stale = is[1] ~= ARGV[5] or is[2] ~= ARGV[4]
if (stale or not plain) and is[1] and made() then return 1 end
if stale then return { is[1], is[2] } end

local set_to = 14 + ARGV[13]
local last = set_to + ARGV[14]
local count = redis.call('RPUSH', lines, ARGV[11])
if plain then
  if last > 14 then set(id, count, 15, set_to, last) end
  redis.call('HSET', run, 'seq', seq, 'state', ARGV[8], 'updated', ARGV[9], 'extra', ARGV[10], 'lines', count)
  if is[3] == status then return 1 end
else
  local rest = last + 9
  -- Return the positions of the next texts, of which there are as many as ARGV[last + number] says.
  local function texts(number)
    local from = rest + 1
    rest = rest + ARGV[last + number]
    return from, rest
  end
  local from, to = texts(1)
  for at = from, to do
    redis.call('HDEL', p .. 'data:' .. id, ARGV[at])
    redis.call('ZREM', p .. 'keys:' .. id, ARGV[at])
    drop_parts(id, ARGV[at])
  end
  if last > 14 then set(id, count, 15, set_to, last) end
  redis.call('HSET', run, 'seq', seq, 'state', ARGV[8], 'updated', ARGV[9], 'extra', ARGV[10], 'lines', count)
  for number, kind in ipairs({ '', 'own-' }) do
    from, to = texts(1 + number)
    for at = from, to do
      local signal = ARGV[at]
      local known = redis.call('HGET', p .. kind .. 'signals:' .. id, signal)
      if known and string.sub(known, 1, 1) == 'w' then
        redis.call('LREM', queue(kind, id, string.sub(known, 18)), 1, signal)
        redis.call('HSET', p .. kind .. 'signals:' .. id, signal, 'c')
        redis.call('HDEL', p .. kind .. 'payloads:' .. id, signal)
        if kind == '' and redis.call('EXISTS', p .. 'waiting:' .. id) == 1 then
          redis.call('DECR', p .. 'waiting:' .. id)
        end
      end
    end
  end
  from, to = texts(4)
  for at = from, to do redis.call('HDEL', p .. 'own:' .. id, ARGV[at]) end
  set_own(id, texts(5))
end
redis.call('HDEL', run, 'until', 'awaited', 'awaits')
if is[3] ~= status or ENDED[status] then
  local its = redis.call('HMGET', run, 'n', 'created', 'workflow')
  local member = its[1] .. ':' .. id
  redis.call('ZREM', p .. 'status:' .. (is[3] or ''), member)
  redis.call('ZADD', p .. 'status:' .. status, its[2], member)
  redis.call('HSET', run, 'status', status)
  if ENDED[status] then
    note_end(id, status, its[2], member)
  elseif ENDED[is[3] or ''] then
    drop_noted(id, member)
    if its[3] then drop_end(its[3], member) end
  end
end
if not plain then
  if ARGV[last + 6] ~= '' then redis.call('HSET', run, 'until', ARGV[last + 6]) end
  if ARGV[last + 7] ~= '0' then redis.call('HSET', run, 'awaited', ARGV[last + 8]) end
  if ARGV[last + 7] == '2' then redis.call('HSET', run, 'awaits', 'own-') end
  if ARGV[last + 9] == '1' then redis.call('HDEL', run, 'holder', 'expires') end
end
place(id)
return 1
