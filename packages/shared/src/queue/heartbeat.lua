-- Resets the idle time of entries in flight, but only of those the caller still owns: a bare XCLAIM would steal back
-- an entry that another dispatcher has taken over.
-- ARGV  group, consumer, entryId...
-- Returns the entry ids still owned.
local group, consumer = ARGV[1], ARGV[2]
local owned = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if #redis.call('XPENDING', stream, group, id, id, 1, consumer) > 0 then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
    owned[#owned + 1] = id
  end
end
return owned
