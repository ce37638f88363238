-- (_names, _parts, _whole) id
return whole(id)
