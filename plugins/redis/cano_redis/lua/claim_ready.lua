-- (_names, _queue, _place, _parts, _whole) op, holder, now, expires, the most runs, number of definitions; name, version and
-- fingerprint of each; ids of runs to skip. Claim runs that are ready and have no holder. Return id, token, the whole run
-- (or false if it is corrupt) and whether a signal waits, of each.
local op, most, last = ARGV[2], tonumber(ARGV[6]), 7 + 3 * ARGV[7]
local claimed, answer = p .. 'claimed:' .. op, {}

local function waits(id)
  for _, kind in ipairs({ '', 'own-' }) do
    local known = redis.pcall('HVALS', p .. kind .. 'signals:' .. id)
    if known.err then return 1 end
    for _, signal in ipairs(known) do
      if string.sub(signal, 1, 1) == 'w' then return 1 end
    end
  end
  return 0
end

local function tell(id)
  local fine, run = pcall(whole, id)
  for _, each in ipairs({ id, redis.call('HGET', p .. 'run:' .. id, 'fence'), fine and run, waits(id) }) do
    answer[#answer + 1] = each
  end
end

if redis.call('EXISTS', claimed) == 1 then -- this call was done, and its answer was lost
  for _, id in ipairs(redis.call('LRANGE', claimed, 0, -1)) do
    if redis.call('HGET', p .. 'run:' .. id, 'claim') == op then tell(id) end
  end
  return answer
end

local wanted, names, seen, found = {}, {}, {}, {}
for at = 8, last, 3 do
  names[ARGV[at]] = true
  wanted[#ARGV[at] .. ':' .. ARGV[at] .. #ARGV[at + 1] .. ':' .. ARGV[at + 1] .. ARGV[at + 2]] = true
end
for at = last + 1, #ARGV do seen[ARGV[at]] = true end

local function add(members)
  for _, member in ipairs(members) do
    local id = string.sub(member, 18)
    if #found >= most then return end
    if not seen[id] then
      seen[id] = true
      local workflow = redis.pcall('HGET', p .. 'run:' .. id, 'workflow')
      local is = names[workflow] and redis.pcall('HMGET', p .. 'run:' .. id, 'workflow', 'version', 'fingerprint', 'holder', 'fence', 'n')
      if is and not is.err and is[1] and is[2] and is[3] and not is[4] and tonumber(is[5]) and is[6]
        and wanted[#is[1] .. ':' .. is[1] .. #is[2] .. ':' .. is[2] .. is[3]] then
        found[#found + 1] = id
      end
    end
  end
end

-- Add the members of an index up to a score, some at a time.
local function add_from(index, score)
  local from = 0
  while #found < most do
    local members = redis.call('ZRANGEBYSCORE', p .. index, '-inf', score, 'LIMIT', from, 500)
    add(members)
    if #members < 500 then return end
    from = from + 500
  end
end

add_from('wake', ARGV[4])
add(redis.call('SMEMBERS', p .. 'heard'))
add_from('lease', '-inf')
for _, id in ipairs(found) do
  local run = p .. 'run:' .. id
  redis.call('HINCRBY', run, 'fence', 1)
  redis.call('HSET', run, 'holder', ARGV[3], 'expires', ARGV[5], 'claim', op)
  redis.call('RPUSH', claimed, id)
  place(id)
  tell(id)
end
if #found > 0 then redis.call('EXPIRE', claimed, 3600) end
return answer
