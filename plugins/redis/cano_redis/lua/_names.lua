-- Precedes every script. KEYS[1] is one of the store's keys, for routing and permissions by key;
-- ARGV[1] is the prefix of all keys, ARGV[2] the run's id.
local p, id = ARGV[1], ARGV[2]
