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

local ids = {}
for i = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local homes, places, given = redis.call('HMGET', inflight, unpack(ids)), {}, {}
local results = {}
for i, deliveryId in ipairs(ids) do
  local entryId = ARGV[2 * i]
  local home = given[deliveryId] or homes[i]
  local admitted = home == entryId
  if admitted then
    -- Still its place, so nobody has settled it.
  elseif not exists(stream, entryId) then
    -- Settled, and recorded perhaps: a place given to it now would never be taken back.
  elseif not home or not isReal(home, deliveryId) then
    places[#places + 1] = deliveryId
    places[#places + 1] = entryId
    given[deliveryId] = entryId
    admitted = true
  else
    redis.call('XACK', stream, group, entryId)
    redis.call('XDEL', stream, entryId)
  end
  results[i] = admitted and 1 or 0
end
if #places > 0 then redis.call('HSET', inflight, unpack(places)) end
return results
