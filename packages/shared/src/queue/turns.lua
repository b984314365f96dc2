-- Whose turn it is: endpoints for which deliveries wait, those that have been passed over longest first. Looking at an
-- endpoint puts it behind those that were not looked at, so that a thousand endpoints without a free share do not hide the
-- next one. Among those looked at the order stays, so that the first to get room is the one that has waited longest for it;
-- let-out puts it behind the others.
-- ARGV  limit
-- Returns { endpoint, ms for which nothing is let out for it, ... }; endpoints that are held back are among them, so that
-- every dispatcher learns of it.
mayWriteWhenFull() -- only moves members
local now = present()
local turns = redis.call('ZRANGE', waiting, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
local turn = #turns > 0 and nextTurn()
local results = {}
for i = 1, #turns, 2 do
  local endpoint = turns[i]
  local held = heldMs(turns[i + 1], now)
  results[i], results[i + 1] = endpoint, held
  if held == 0 then
    if redis.call('EXISTS', waitingList(endpoint)) == 1 then
      redis.call('ZADD', waiting, turn - 1 + i / (#turns + 1), endpoint)
    else
      redis.call('ZREM', waiting, endpoint)
      redis.call('HDEL', letOut, endpoint)
    end
  end
end
if #turns > 0 and redis.call('EXISTS', waiting) == 0 then redis.call('DEL', letOut) end
return results
