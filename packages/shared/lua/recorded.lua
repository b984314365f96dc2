-- Removes log entries whose records are in Postgres, and with a delivery's last one its place in `inflight`.
-- KEYS  log, inflight
-- ARGV  group, then per log entry: logEntryId, deliveryId
-- Returns the number removed.
local log, inflight, group = KEYS[1], KEYS[2], ARGV[1]
local removed = 0
for i = 2, #ARGV, 2 do
  local logEntryId, deliveryId = ARGV[i], ARGV[i + 1]
  if redis.call('HGET', inflight, deliveryId) == 'log:' .. logEntryId then redis.call('HDEL', inflight, deliveryId) end
  redis.call('XACK', log, group, logEntryId)
  removed = removed + redis.call('XDEL', log, logEntryId)
end
return removed
