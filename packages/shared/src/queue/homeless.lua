-- Finds deliveries without a real home, and deletes stale homes, so that `reinject` can give those deliveries new ones.
-- ARGV  deliveryId...
-- Returns the ids without a home.
local homeless = {}
local known = redis.call('HMGET', homes, unpack(ARGV))
for i, deliveryId in ipairs(ARGV) do
  if not realHome(deliveryId, known[i]) then
    if known[i] then redis.call('HDEL', homes, deliveryId) end
    homeless[#homeless + 1] = deliveryId
  end
end
return homeless
