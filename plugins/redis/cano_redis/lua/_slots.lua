-- Slots of limits: a hash for each limit, with the text of a place by the run's id, and the set of the limits that have one.
-- A place is token, seq (or ''), size, 'w' if it waits or 's', since, and the lender's id (or ''), with colons between.
local function place_in(text)
  local token, seq, size, kind, since, lender = string.match(text, '^(%d+):(%d*):(%d+):([ws]):([^:]*):(.*)$')
  return { token = token, seq = seq, size = size, waits = kind == 'w', since = tonumber(since), at = since, lender = lender }
end

local function text_of(place)
  local kind = place.waits and 'w' or 's'
  return table.concat({ place.token, place.seq, place.size, kind, place.at, place.lender }, ':')
end

local function places_of(name)
  local flat, found = redis.call('HGETALL', p .. 'slots:' .. name), {}
  for at = 1, #flat, 2 do found[flat[at]] = place_in(flat[at + 1]) end
  return found
end

local function set_place(name, run_id, place)
  redis.call('HSET', p .. 'slots:' .. name, run_id, text_of(place))
  redis.call('SADD', p .. 'limits', name)
end

local function drop_place(name, run_id)
  redis.call('HDEL', p .. 'slots:' .. name, run_id)
  if redis.call('EXISTS', p .. 'slots:' .. name) == 0 then redis.call('SREM', p .. 'limits', name) end
end

-- Whether a place counts: it does not again, since tokens and numbers only rise. The second answer is the end of its lease.
local function counts(run_id, place)
  local is = redis.pcall('HMGET', p .. 'run:' .. run_id, 'fence', 'holder', 'seq', 'expires')
  local valid = not is.err and is[1] == place.token and is[2] and (place.seq == '' or place.seq == is[3])
  return valid, valid and tonumber(is[4] or nil)
end
