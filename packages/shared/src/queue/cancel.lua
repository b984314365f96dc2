-- Takes a delivery out of the queue, unless an attempt is running.
-- ARGV  group, deliveryId
-- Returns 'cancelled' (also when Redis does not hold it), 'in_flight' or 'unrecorded' (settled, but not yet in Postgres).
local group, deliveryId = ARGV[1], ARGV[2]
local home = redis.call('HGET', homes, deliveryId)
local place = realHome(deliveryId, home)
if place == 'log' then return 'unrecorded' end
if place == 'stream' then
  -- No group yet (NOGROUP) means that no dispatcher has read anything.
  local pending = redis.pcall('XPENDING', stream, group, home, home, 1)
  if not pending.err and #pending > 0 then return 'in_flight' end
  redis.call('XDEL', stream, home)
end
redis.call('ZREM', retries, deliveryId)
redis.call('HDEL', retriesData, deliveryId)
redis.call('HDEL', waitingData, deliveryId)
redis.call('HDEL', homes, deliveryId)
return 'cancelled'
