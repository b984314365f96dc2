-- Gives each entry just read the delivery's single place in `inflight`. An entry whose delivery already lives elsewhere
-- (another entry, a waiting retry, an unrecorded outcome) is a duplicate and is removed.
-- KEYS  stream, inflight, retries, log
-- ARGV  group, then per entry: entryId, deliveryId
-- Returns per entry: 1 admitted, 0 removed as a duplicate, or already settled by another (the reader had stalled).
local stream, inflight, retries, log, group = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
-- A script that has written may go on writing while Redis is out of memory; this no-op is that first write. What is read must get on.
redis.call('HDEL', inflight, '')

local function exists(key, entryId) return #redis.call('XRANGE', key, entryId, entryId) > 0 end
-- False for what is left over from an entry, retry or log entry that was trimmed or deleted by hand.
local function isReal(home, deliveryId)
  if home == 'retry' then return redis.call('ZSCORE', retries, deliveryId) end
  if string.find(home, '^%d+%-%d+$') then return exists(stream, home) end
  return string.find(home, '^log:%d+%-%d+$') and exists(log, string.sub(home, 5))
end

local results = {}
for i = 2, #ARGV, 2 do
  local entryId, deliveryId = ARGV[i], ARGV[i + 1]
  local home = redis.call('HGET', inflight, deliveryId)
  local admitted = home == entryId
  if not exists(stream, entryId) then
    -- Settled, and recorded perhaps: a place given to it now would never be taken back.
    admitted = false
  elseif not home or (not admitted and not isReal(home, deliveryId)) then
    redis.call('HSET', inflight, deliveryId, entryId)
    admitted = true
  elseif not admitted then
    redis.call('XACK', stream, group, entryId)
    redis.call('XDEL', stream, entryId)
  end
  results[#results + 1] = admitted and 1 or 0
end
return results
