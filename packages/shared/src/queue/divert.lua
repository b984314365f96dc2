-- Takes entries that nobody has read out of the stream and puts them into their endpoints' waiting lists, where others wait
-- already. Costs a tenth of reading each one only to find that it has to wait.
-- ARGV  group, then per entry: entryId, deliveryId, endpoint, fields (JSON object of strings)
-- Returns the number diverted. An entry that has been read meanwhile, that is not its delivery's home, or for whose endpoint
-- nobody waits any more, is left to the dispatchers.
local group = ARGV[1]
mayWriteWhenFull() -- diverting only moves data
local diverted = 0

-- Without a group nobody has read anything.
local function isRead(entryId)
  local pending = redis.pcall('XPENDING', stream, group, entryId, entryId, 1)
  return not pending.err and #pending > 0
end

for i = 2, #ARGV, 4 do
  local entryId, deliveryId, endpoint = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local home = redis.call('HGET', homes, deliveryId)
  if (not home or home == entryId) and redis.call('ZSCORE', waiting, endpoint) and entryExists(stream, entryId)
    and not isRead(entryId) then
    putInLine(endpoint, deliveryId, ARGV[i + 3], false)
    redis.call('HSET', homes, deliveryId, 'waiting')
    redis.call('XDEL', stream, entryId)
    diverted = diverted + 1
  end
end
return diverted
