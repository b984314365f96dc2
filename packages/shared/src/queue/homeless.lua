-- Finds deliveries without a real home, and marks them as lost. `reinject` gives only those a home that still have this mark:
-- a delivery that was cancelled, deleted or sent again since must not come back. It ends early when it has had to look at
-- large entries, so that Redis is not kept busy for long.
-- ARGV  marker, ms for which the mark lasts, most bytes to look at, deliveryId...
-- Returns how many of the deliveries it has examined (at least one), then the ids of those without a home.
local marker, ends, mostBytes = ARGV[1], present() + tonumber(ARGV[2]), tonumber(ARGV[3])
mayWriteWhenFull() -- at most a page of marks, and the next pass replaces them
local results = { 0 }
local known = redis.call('HMGET', homes, unpack(ARGV, 4))
for i = 4, #ARGV do
  local deliveryId, home = ARGV[i], known[i - 3]
  local kind, closedUntil = tombstone(home or '')
  local isClosed = kind == 'closed' and closedUntil > present()
  if not isClosed and not realHome(deliveryId, home) then
    bury(deliveryId, 'lost', ends, marker)
    results[#results + 1] = deliveryId
  end
  results[1] = i - 3
  if bytesLookedAt >= mostBytes then break end
end
return results
