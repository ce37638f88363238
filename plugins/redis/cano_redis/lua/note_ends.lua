-- (_names, _ended) status, first, last. Note the ends of runs, by their ranks in the index of a status, as earlier versions
-- did not. Return their number.
local found = redis.call('ZRANGE', p .. 'status:' .. ARGV[2], ARGV[3], ARGV[4], 'WITHSCORES')
for at = 1, #found, 2 do
  note_end(string.sub(found[at], 18), ARGV[2], found[at + 1], found[at])
end
return #found / 2
