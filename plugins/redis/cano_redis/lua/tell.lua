-- (_names) channel, news. Notify other backends.
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return 1
