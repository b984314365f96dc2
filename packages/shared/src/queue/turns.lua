-- Whose turn it is: endpoints for which deliveries wait, those that have been passed over longest first. Looking at an
-- endpoint puts it behind those that were not looked at, so that a thousand endpoints without a free share do not hide the
-- next one. Among those looked at the order stays, so that the first to get room is the one that has waited longest for it;
-- let-out puts it behind the others.
-- A turn is a fraction of a ms and a hold is not, so that the clock may step back: a turn taken before would look like a hold.
-- ARGV  limit
-- Returns { now (ms), endpoint, the moment before which nothing is let out for it (ms), ... }; endpoints that are held back
-- are among them, so that every dispatcher learns of it.
mayWriteWhenFull() -- only moves members
local now = present()
local turns = redis.call('ZRANGE', waiting, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
-- As long as a receiver may ask for.
local LONGEST_HOLD_MS = 3600000

local function isHeldUntil(at) return at % 1 == 0 and at > now and at <= now + LONGEST_HOLD_MS end

for i = 1, #turns, 2 do
  local endpoint = turns[i]
  if not isHeldUntil(tonumber(turns[i + 1])) then
    turns[i + 1] = now
    if redis.call('EXISTS', waitingList(endpoint)) == 1 then
      redis.call('ZADD', waiting, now - 1 + i / (#turns + 1), endpoint)
    else
      redis.call('ZREM', waiting, endpoint)
      redis.call('HDEL', letOut, endpoint)
    end
  end
end
return { now, unpack(turns) }
