-- Ends a hold without sending. 'kept': what was held goes on as before. 'removed': it is taken out. 'cancelled': the same, but
-- if Redis had not heard of the delivery, the request that creates it may be about to enqueue it, so the tombstone stays
-- for a while.
-- ARGV  deliveryId, holder, end (kept | removed | cancelled), ms for which the tombstone stays
-- Returns 1, or 0 when the hold is over (and nothing was changed).
local deliveryId, holder, ending, ms = unpack(ARGV)
mayWriteWhenFull() -- writes nothing that lasts
local home = redis.call('HGET', homes, deliveryId)
if not isHeldBy(home, holder) then return 0 end
local _, ends = tombstone(home)
local dueAt = retryExists(deliveryId) and tonumber(redis.call('ZSCORE', retries, deliveryId))
if ending == 'kept' then
  -- `promote` has put it off until the end of the hold.
  if dueAt and dueAt == ends then redis.call('ZADD', retries, present(), deliveryId) end
  unbury(deliveryId)
elseif dueAt or isWaiting(deliveryId) or ending == 'removed' then
  redis.call('ZREM', retries, deliveryId)
  redis.call('HDEL', retriesData, deliveryId)
  redis.call('HDEL', waitingData, deliveryId)
  unbury(deliveryId)
else
  bury(deliveryId, 'closed', present() + tonumber(ms), '')
end
return 1
