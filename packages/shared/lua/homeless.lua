-- Finds deliveries that Redis holds nowhere: `inflight` does not know them, or what it says is left over from an entry,
-- retry or log entry that was trimmed or deleted by hand. Such left-overs are cleared, so that `reinject` may act.
-- KEYS  stream, retries, retriesData, log, inflight
-- ARGV  deliveryId...
-- Returns the ids without a home.
local stream, retries, retriesData, log, inflight = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local homeless = {}
local homes = redis.call('HMGET', inflight, unpack(ARGV))
for i, deliveryId in ipairs(ARGV) do
  local home, isReal = homes[i], false
  if home == 'retry' then
    isReal = redis.call('ZSCORE', retries, deliveryId) and redis.call('HEXISTS', retriesData, deliveryId) == 1
  elseif home and string.find(home, '^log:%d+%-%d+$') then
    local logEntryId = string.sub(home, 5)
    isReal = #redis.call('XRANGE', log, logEntryId, logEntryId) > 0
  elseif home and string.find(home, '^%d+%-%d+$') then
    isReal = #redis.call('XRANGE', stream, home, home) > 0
  end
  if not isReal then
    if home then redis.call('HDEL', inflight, deliveryId) end
    homeless[#homeless + 1] = deliveryId
  end
end
return homeless
