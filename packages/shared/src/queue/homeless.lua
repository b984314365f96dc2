-- Finds deliveries without a real home, and deletes stale homes, so that `reinject` can give those deliveries new ones. It ends
-- early when it has had to look at large entries, so that Redis is not kept busy for long.
-- ARGV  most bytes to look at, then deliveryId...
-- Returns how many of the deliveries it has examined (at least one), then the ids of those without a home.
local mostBytes = tonumber(ARGV[1])
local results = { 0 }
local known = redis.call('HMGET', homes, unpack(ARGV, 2))
for i = 2, #ARGV do
  local deliveryId, home = ARGV[i], known[i - 1]
  if not realHome(deliveryId, home) then
    if home then redis.call('HDEL', homes, deliveryId) end
    results[#results + 1] = deliveryId
  end
  results[1] = i - 1
  if bytesLookedAt >= mostBytes then break end
end
return results
