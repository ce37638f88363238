-- (_names, _slots) '1' for all limits or '0', names. Return name, run id, size, kind and since of each place that counts.
local found, names = {}, {}
if ARGV[2] == '1' then names = redis.call('SMEMBERS', p .. 'limits') end
for number = 3, #ARGV do names[#names + 1] = ARGV[number] end
for _, name in ipairs(names) do
  for run_id, place in pairs(places_of(name)) do
    if counts(run_id, place) then
      for _, each in ipairs({ name, run_id, place.size, place.waits and 'w' or 's', place.at }) do found[#found + 1] = each end
    end
  end
end
return found
