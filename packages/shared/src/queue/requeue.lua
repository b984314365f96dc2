-- Ends a hold by sending the delivery at once (manual retry, replay of a dead letter). A waiting retry is replaced by the new
-- entry, and the dead letter is removed.
-- ARGV  deliveryId, holder, deadEntryId ('' when none), field, value, ...
-- Returns the new entry's id; or '', having changed nothing, when the hold is over: then the delivery has another home, or
-- reconcile sends it, because its row is pending.
local deliveryId, holder, deadEntryId = ARGV[1], ARGV[2], ARGV[3]
if not isHeldBy(redis.call('HGET', homes, deliveryId), holder) then return '' end
local entryId = redis.call('XADD', stream, '*', unpack(ARGV, 4))
redis.call('HSET', homes, deliveryId, entryId)
redis.call('ZREM', tombstones, deliveryId)
redis.call('ZREM', retries, deliveryId)
redis.call('HDEL', retriesData, deliveryId)
if deadEntryId ~= '' then redis.call('XDEL', dead, deadEntryId) end
return entryId
