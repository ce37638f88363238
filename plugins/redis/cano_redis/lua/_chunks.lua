-- Chunks of streams. The set `streams` of a run has its channels, and each of these a sorted set of chunks by their last
-- offset. Their keys have the run's number, so that no later run with its id has them.
local function channels_key(n) return p .. 'streams:' .. n end
local function chunks_key(n, channel) return p .. 'stream' .. n .. channel end

-- Add chunks to a run's streams, but for those that are there: a list of channels, each with a last offset and a chunk.
local function add_chunks(n, given)
  for at = 1, #given, 3 do
    local key, last = chunks_key(n, given[at]), given[at + 1]
    if redis.call('ZCOUNT', key, last, last) == 0 then
      redis.call('ZADD', key, last, given[at + 2])
      redis.call('SADD', channels_key(n), given[at])
    end
  end
end

-- Delete the streams of a run.
local function drop_streams(n)
  local channels = redis.call('SMEMBERS', channels_key(n))
  for _, channel in ipairs(channels) do redis.call('UNLINK', chunks_key(n, channel)) end
  if #channels > 0 then redis.call('DEL', channels_key(n)) end
end
