-- (_names, _audit) times, each with its entry
for at = 2, #ARGV, 2 do audit(ARGV[at], ARGV[at + 1]) end
return 1
