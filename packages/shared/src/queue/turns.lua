-- Whose turn it is: endpoints for which deliveries wait, those that have been passed over longest first. Looking at an
-- endpoint puts it behind those that were not looked at, so that a thousand endpoints without a free share do not hide the
-- next one. Among those looked at the order stays, so that the first to get room is the one that has waited longest for it;
-- let-out puts it behind the others.
-- ARGV  limit
-- Returns { now (ms), endpoint, the moment before which nothing is let out for it (ms), ... }; endpoints that are held back
-- are among them, so that every dispatcher learns of it.
mayWriteWhenFull() -- only moves members
local now = present()
local turns = redis.call('ZRANGE', waiting, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
for i = 1, #turns, 2 do
  local endpoint = turns[i]
  if tonumber(turns[i + 1]) <= now then
    if redis.call('EXISTS', waitingList(endpoint)) == 1 then
      redis.call('ZADD', waiting, now - 1 + i / (#turns + 1), endpoint)
    else
      redis.call('ZREM', waiting, endpoint)
      redis.call('HDEL', letOut, endpoint)
    end
  end
end
return { now, unpack(turns) }
