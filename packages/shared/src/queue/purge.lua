-- Takes deliveries out of the queue that were deleted in Postgres, or whose endpoint was. Dead letters are not looked at. It
-- ends early when it has had to look at large entries, so that Redis is not kept busy for long.
-- ARGV  group, ms for which a tombstone stays, ms after which a pending entry is nobody's, most bytes to look at, then per
--       delivery: deliveryId,
--       kind: 'deleted' (its row is gone: not even a running attempt is waited for), 'new' (the same, and the request that
--       creates it may be about to enqueue it), or 'kept' (the outcome of a running attempt is still recorded in its row)
-- Returns per delivery that it came to: 1 cleared, 0 when an attempt is running or its outcome is not recorded.
local group, ms, idleMs, mostBytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
mayWriteWhenFull() -- purging frees memory
local results = {}
for i = 5, #ARGV, 2 do
  local deliveryId, kind = ARGV[i], ARGV[i + 1]
  local home = redis.call('HGET', homes, deliveryId)
  local place = realHome(deliveryId, home)
  local isRunning = place == 'log'
  if place == 'stream' then
    local pending = redis.pcall('XPENDING', stream, group, home, home, 1)
    local read = not pending.err and pending[1]
    isRunning = read and kind == 'kept' and read[3] < idleMs
    if not isRunning then
      if read then redis.call('XACK', stream, group, home) end
      redis.call('XDEL', stream, home)
    end
  end
  if not isRunning then
    redis.call('ZREM', retries, deliveryId)
    redis.call('HDEL', retriesData, deliveryId)
    redis.call('HDEL', waitingData, deliveryId)
    if kind ~= 'new' or place then
      unbury(deliveryId)
    elseif tombstone(home or '') ~= 'closed' then
      bury(deliveryId, 'closed', present() + ms, '')
    end
  end
  results[#results + 1] = isRunning and 0 or 1
  if bytesLookedAt >= mostBytes then break end
end
return results
