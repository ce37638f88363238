-- (_names, _whole) id
return whole(id)
