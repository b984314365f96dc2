-- Takes entries that nobody has read out of the stream and puts them into their endpoints' waiting lists, where others wait
-- already. Costs a tenth of reading each one only to find that it has to wait.
-- ARGV  group, then per entry: entryId, deliveryId, endpoint, fields (JSON object of strings)
-- Returns the number diverted. An entry that has been read meanwhile, that is not its delivery's home, or for whose endpoint
-- nobody waits any more, is left to the dispatchers.
local group = ARGV[1]
mayWriteWhenFull() -- diverting only moves data
local diverted, newHomes, gone = 0, {}, {}
for i = 2, #ARGV, 4 do
  local entryId, deliveryId, endpoint = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local home = redis.call('HGET', homes, deliveryId)
  if (not home or home == entryId) and redis.call('ZSCORE', waiting, endpoint) and entryExists(stream, entryId)
    and #redis.call('XPENDING', stream, group, entryId, entryId, 1) == 0 and not newHomes[deliveryId] then
    putInLine(endpoint, deliveryId, ARGV[i + 3], false)
    redis.call('HSET', homes, deliveryId, 'waiting')
    redis.call('XDEL', stream, entryId)
    newHomes[deliveryId] = true
    diverted = diverted + 1
  end
end
return diverted
