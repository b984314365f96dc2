-- Gives unfinished entries back at shutdown: each is appended again, so that a waiting dispatcher reads it at once instead
-- of claiming it after the idle time, and so that the read does not count as a crash.
-- ARGV  group, consumer, then per entry: entryId, deliveryId
-- Returns the number released; an entry that the caller does not own, or whose delivery has another home, is left alone.
local group, consumer = ARGV[1], ARGV[2]
mayWriteWhenFull() -- releasing only moves entries
local released = 0
for i = 3, #ARGV, 2 do
  local entryId, deliveryId = ARGV[i], ARGV[i + 1]
  local entry = redis.call('XRANGE', stream, entryId, entryId)[1]
  local home = redis.call('HGET', homes, deliveryId)
  -- A larger entry cannot be appended from Lua; it is claimed after the idle time.
  if entry and #entry[2] <= LARGEST_ENTRY_VALUES and (not home or home == entryId)
    and #redis.call('XPENDING', stream, group, entryId, entryId, 1, consumer) > 0 then
    local fields, hasId = entry[2], false
    for j = 1, #fields, 2 do hasId = hasId or (fields[j] == 'id' and fields[j + 1] ~= '') end
    -- Without an `id` field the delivery id is derived from the entry id, which changes here.
    if not hasId then
      fields[#fields + 1] = 'id'
      fields[#fields + 1] = deliveryId
    end
    redis.call('HSET', homes, deliveryId, redis.call('XADD', stream, '*', unpack(fields)))
    redis.call('XACK', stream, group, entryId)
    redis.call('XDEL', stream, entryId)
    released = released + 1
  end
end
return released
