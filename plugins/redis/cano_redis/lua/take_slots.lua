-- (_names, _queue, _place, _slots) id, token, seq or '', now, the time for rates or '', since, number of lenders, lenders; name,
-- size and interval of each limit. Return '0', or the seconds to wait ('inf' if no time is known); or seq and token of the run if
-- the given ones are stale.
local token, seq, now, at, since, own = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[7])
local first = 9 + ARGV[8]
local is = redis.call('HMGET', KEYS[1], 'seq', 'fence', 'holder')
if is[2] ~= token or not is[3] or (seq ~= '' and is[1] ~= seq) then return { is[1], is[2] } end
if not at then
  local time = redis.call('TIME')
  at = time[1] + time[2] / 1000000
end

local place_run = place

-- Delete the places that do not count, and return the others. The run that asks keeps its own with a new token.
local function current(name)
  local places = places_of(name)
  for other, place in pairs(places) do
    local valid, expires = counts(other, place)
    if other == id then
      place.token, place.seq = token, seq
      set_place(name, id, place)
    else
      if valid and expires and expires < now then
        redis.call('HINCRBY', p .. 'run:' .. other, 'fence', 1)
        redis.call('HDEL', p .. 'run:' .. other, 'holder', 'expires')
        place_run(other)
        valid = false
      end
      if not valid then
        drop_place(name, other)
        places[other] = nil
      end
    end
  end
  for other, place in pairs(places) do
    local lender = places[place.lender]
    if place.lender ~= '' and (not lender or lender.waits) then
      place.lender = ''
      set_place(name, other, place)
    end
  end
  return places
end

local function set_rate(name, next_at)
  redis.call('SET', p .. 'rate:' .. name, string.format('%.17g', next_at))
  if ARGV[6] == '' then redis.call('EXPIRE', p .. 'rate:' .. name, math.ceil(next_at - at) + 1) end
end

-- Return the seconds to wait for one limit, and what to do if all are free: nothing, a lender ('' for none), a rate's next time.
local function chance(name, size, interval)
  local places = current(name)
  if places[id] and not places[id].waits then return 0 end
  local ahead, used, lent = 0, 0, {}
  for other, place in pairs(places) do
    if other ~= id then
      if place.waits then
        if place.since < own or (place.since == own and other < id) then ahead = ahead + 1 end
      else
        lent[place.lender] = true
        if place.lender == '' then used = used + 1 end
      end
    end
  end
  if interval > 0 then
    local next_at = math.max(tonumber(redis.call('GET', p .. 'rate:' .. name) or at), at)
    if next_at > at + size * interval then
      next_at = at + size * interval
      set_rate(name, next_at)
    end
    local wait = next_at - at + (ahead - size + 1) * interval
    return wait > 0.000001 and wait or 0, nil, next_at + interval
  end
  for number = 9, first - 1 do
    local lender = ARGV[number]
    if lender ~= id and places[lender] and not places[lender].waits and not lent[lender] then return 0, lender end
  end
  return used + ahead < size and 0 or math.huge, ''
end

local seconds, blocked, takes = 0, nil, {}
for number = first, #ARGV, 3 do
  local wait, lender, next_at = chance(ARGV[number], tonumber(ARGV[number + 1]), tonumber(ARGV[number + 2]))
  takes[number] = { lender, next_at }
  if wait > 0 then
    seconds, blocked = math.max(seconds, wait), blocked or number
  end
end
for number = first, #ARGV, 3 do
  local name, size, lender, next_at = ARGV[number], ARGV[number + 1], takes[number][1], takes[number][2]
  if blocked or lender or next_at then drop_place(name, id) end
  if number == blocked then
    set_place(name, id, { token = token, seq = seq, size = size, waits = true, at = since, lender = '' })
  elseif not blocked and next_at then
    set_rate(name, next_at)
  elseif not blocked and lender then
    set_place(name, id, { token = token, seq = seq, size = size, waits = false, at = ARGV[5], lender = lender })
  end
end
return seconds == math.huge and 'inf' or string.format('%.17g', seconds)
