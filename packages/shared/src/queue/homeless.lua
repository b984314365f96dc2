-- Finds deliveries without a real home, and marks them as lost. `reinject` gives only those a home that still have this mark:
-- a delivery that was cancelled, deleted or sent again since must not come back.
-- ARGV  marker, ms for which the mark lasts, deliveryId...
-- Returns the ids without a home.
local marker, ends = ARGV[1], present() + tonumber(ARGV[2])
mayWriteWhenFull() -- at most a page of marks, and the next pass replaces them
local homeless = {}
local known = redis.call('HMGET', homes, unpack(ARGV, 3))
for i = 3, #ARGV do
  local deliveryId, home = ARGV[i], known[i - 2]
  local kind, closedUntil = tombstone(home or '')
  local isClosed = kind == 'closed' and closedUntil > present()
  if not isClosed and not realHome(deliveryId, home) then
    bury(deliveryId, 'lost', ends, marker)
    homeless[#homeless + 1] = deliveryId
  end
end
return homeless
