-- Shared first lines of the scripts that move deliveries; script.ts puts them in front of the script's own text.
-- KEYS  stream, homes, retries, retriesData, log, dead, epoch, tombstones (the same for every script; none has keys of its own)
local stream, homes, retries, retriesData, log, dead, epoch, tombstones = unpack(KEYS)

-- Once a script has written, Redis lets it go on writing even when out of memory. This no-op is that first write, for
-- scripts that free memory or only move data.
local function mayWriteWhenFull() redis.call('HDEL', homes, '') end

local function entryExists(key, entryId) return #redis.call('XRANGE', key, entryId, entryId) > 0 end

local function present()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function retryExists(deliveryId)
  return redis.call('ZSCORE', retries, deliveryId) and redis.call('HEXISTS', retriesData, deliveryId) == 1
end

-- A home may also be a tombstone, `<kind>:<until, in ms>[:<whose>]`, which means nothing any more after that time:
--   closing  a person's action is between Redis and Postgres: until it is done, the delivery goes nowhere. A retry stays
--            where it is, and is not promoted.
--   closed   the delivery is over, and Redis had not heard of it: an enqueue on its way must not bring it back.
--   lost     reconcile has found no home and reads the row. Anybody may give the delivery a home; then reconcile does not.
-- `tombstones` holds their times, so that those which nobody has removed are found. Returns kind, until, whose; or nil.
local function tombstone(home)
  local kind, ends, whose = string.match(home, '^(%l+):(%d+):?(.*)$')
  if kind == 'closing' or kind == 'closed' or kind == 'lost' then return kind, tonumber(ends), whose end
end

local function bury(deliveryId, kind, ends, whose)
  -- `%d` would print a number of this size as a negative one on some platforms.
  redis.call('HSET', homes, deliveryId, string.format('%s:%.0f:%s', kind, ends, whose))
  redis.call('ZADD', tombstones, ends, deliveryId)
end

-- Removes a tombstone; a retry that has waited behind it is a home again.
local function unbury(deliveryId)
  if retryExists(deliveryId) then
    redis.call('HSET', homes, deliveryId, 'retry')
  else
    redis.call('HDEL', homes, deliveryId)
  end
  redis.call('ZREM', tombstones, deliveryId)
end

-- Whether `home` is this holder's own tombstone, expired or not.
local function isHeldBy(home, holder)
  if not home then return false end
  local kind, _, whose = tombstone(home)
  return kind == 'closing' and whose == holder
end

-- Which kind of place `home` names: 'stream', 'retry', 'log' or 'closing'. False when there is no home, or when it names an
-- entry, retry or log entry that no longer exists (trimmed, or deleted by hand), or is a tombstone without a meaning here.
local function realHome(deliveryId, home)
  if not home then return false end
  if string.find(home, '^%d+%-%d+$') then return entryExists(stream, home) and 'stream' end
  if string.find(home, '^log:%d+%-%d+$') then return entryExists(log, string.sub(home, 5)) and 'log' end
  local kind, ends = tombstone(home)
  if kind == 'closing' and ends > present() then return 'closing' end
  return (home == 'retry' or kind ~= nil) and retryExists(deliveryId) and 'retry'
end

-- Lua can pass about 8000 values to a call, and XADD takes two per field.
local LARGEST_ENTRY_VALUES = 2000
