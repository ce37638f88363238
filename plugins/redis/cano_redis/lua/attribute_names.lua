-- (_names) Return the names of all attributes, each with the first byte of a value, once for each first byte.
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', p .. 'attribute-names')) do
  local from = '-'
  while true do
    local some = redis.call('ZRANGEBYLEX', p .. 'attribute:' .. name, from, '+', 'LIMIT', 0, 1)
    if #some == 0 then break end
    found[#found + 1] = name
    found[#found + 1] = string.sub(some[1], 1, 1)
    from = '[' .. string.char(string.byte(some[1]) + 1)
  end
end
return found
