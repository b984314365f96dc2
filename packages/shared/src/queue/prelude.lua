-- The first lines of every script that moves deliveries; script.ts puts them in front of the script's own text.
-- KEYS  stream, homes, retries, retriesData, log, dead, epoch (the same for all of them; a script's own keys follow)
local stream, homes, retries, retriesData, log, dead, epoch = unpack(KEYS)

-- A script that has written may go on writing while Redis is out of memory. This no-op is that first write, for scripts
-- that free memory or move what is there.
local function mayWriteWhenFull() redis.call('HDEL', homes, '') end

local function entryExists(key, entryId) return #redis.call('XRANGE', key, entryId, entryId) > 0 end

-- Where `home` says that a delivery is: 'stream', 'retry' or 'log'. False when there is no home, or when it is left over
-- from an entry, retry or log entry that was trimmed or deleted by hand.
local function realHome(deliveryId, home)
  if not home then return false end
  if home == 'retry' then
    return redis.call('ZSCORE', retries, deliveryId) and redis.call('HEXISTS', retriesData, deliveryId) == 1 and 'retry'
  end
  if string.find(home, '^%d+%-%d+$') then return entryExists(stream, home) and 'stream' end
  return string.find(home, '^log:%d+%-%d+$') and entryExists(log, string.sub(home, 5)) and 'log'
end

-- Lua hands at most 8000 values to a call, and XADD takes two a field.
local LARGEST_ENTRY_VALUES = 2000
