-- The key of the list of a run's waiting signals of one name. `kind` is '' for signals of users, and 'own-' for the
-- engine's own: these have keys of their own. The first NUL ends the id; an id that contains one is
-- preceded by its length, so that no id and name make the key of another pair.
local function queue(kind, id, name)
  if string.find(id, '\0', 1, true) then return p .. kind .. 'queue' .. #id .. ':' .. id .. name end
  return p .. kind .. 'queue:' .. id .. '\0' .. name
end
