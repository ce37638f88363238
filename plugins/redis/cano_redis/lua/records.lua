-- (_names, _records) members
local members = {}
for at = 2, #ARGV do members[at - 1] = ARGV[at] end
return records(members, 1, #members)
