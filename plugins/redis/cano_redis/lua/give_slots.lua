-- (_names, _slots) id, token, names. Give back the run's places with this token. Return the runs that wait longest for each name.
local told = {}
for number = 4, #ARGV do
  local name, waiting = ARGV[number], {}
  local places = places_of(name)
  if places[id] and places[id].token == ARGV[3] then
    drop_place(name, id)
    places[id] = nil
  end
  for other, place in pairs(places) do
    if place.waits then waiting[#waiting + 1] = { place.since, other } end
  end
  table.sort(waiting, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for at = 1, math.min(3, #waiting) do told[#told + 1] = waiting[at][2] end
end
return told
