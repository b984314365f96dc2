-- Takes a delivery out of the queue, unless an attempt is running.
-- KEYS  stream, retries, retriesData, inflight
-- ARGV  group, deliveryId
-- Returns 'cancelled' (also when Redis does not hold it), 'in_flight' or 'unrecorded' (it is settled, not yet in Postgres).
local stream, retries, retriesData, inflight = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, deliveryId = ARGV[1], ARGV[2]
local current = redis.call('HGET', inflight, deliveryId)
if not current then return 'cancelled' end
if string.sub(current, 1, 4) == 'log:' then return 'unrecorded' end
if current == 'retry' then
  redis.call('ZREM', retries, deliveryId)
  redis.call('HDEL', retriesData, deliveryId)
else
  -- No group yet (NOGROUP) means that no dispatcher has read anything.
  local pending = redis.pcall('XPENDING', stream, group, current, current, 1)
  if not pending.err and #pending > 0 then return 'in_flight' end
  redis.call('XDEL', stream, current)
end
redis.call('HDEL', inflight, deliveryId)
return 'cancelled'
