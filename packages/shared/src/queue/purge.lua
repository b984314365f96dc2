-- Takes deliveries out of the queue whose rows are gone. No attempt is waited for, because there is nothing to record its outcome
-- in. Dead letters are not looked at. It ends early when it has had to look at large entries, so that Redis is not kept busy
-- for long.
-- ARGV  group, ms for which a tombstone stays, most bytes to look at, then per delivery: deliveryId, kind: 'deleted', or 'new'
--       when the request that creates it may be about to enqueue it
-- Returns per delivery that it came to: 1 cleared, 0 when an outcome is on its way to Postgres.
local group, ms, mostBytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
mayWriteWhenFull() -- purging frees memory
local results = {}
for i = 4, #ARGV, 2 do
  local deliveryId, kind = ARGV[i], ARGV[i + 1]
  local home = redis.call('HGET', homes, deliveryId)
  local place = realHome(deliveryId, home)
  if place == 'stream' then
    redis.pcall('XACK', stream, group, home) -- there may be no group yet
    redis.call('XDEL', stream, home)
  end
  if place ~= 'log' then
    redis.call('ZREM', retries, deliveryId)
    redis.call('HDEL', retriesData, deliveryId)
    redis.call('HDEL', waitingData, deliveryId)
    if kind ~= 'new' or place then
      unbury(deliveryId)
    elseif tombstone(home or '') ~= 'closed' then
      bury(deliveryId, 'closed', present() + ms, '')
    end
  end
  results[#results + 1] = place == 'log' and 0 or 1
  if bytesLookedAt >= mostBytes then break end
end
return results
