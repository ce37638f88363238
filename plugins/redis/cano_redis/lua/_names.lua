-- Every script begins with this. KEYS[1] is one of the store's keys, for whoever routes or permits by keys;
-- ARGV[1] is what all keys begin with, ARGV[2] the run's id.
local p, id = ARGV[1], ARGV[2]
