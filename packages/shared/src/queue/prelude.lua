-- Shared first lines of the scripts that move deliveries; script.ts puts them in front of the script's own text.
-- KEYS  stream, homes, retries, retriesData, log, dead, epoch (the same for every script; none has keys of its own)
local stream, homes, retries, retriesData, log, dead, epoch = unpack(KEYS)

-- Once a script has written, Redis lets it go on writing even when out of memory. This no-op is that first write, for
-- scripts that free memory or only move data.
-- Whether Redis refuses what takes memory. To be asked before the script's first write: it writes nothing itself.
local function isOutOfMemory()
  local reply = redis.pcall('SETRANGE', epoch, 0, '')
  return type(reply) == 'table' and reply.err ~= nil and string.find(reply.err, 'OOM', 1, true) ~= nil
end

local function mayWriteWhenFull() redis.call('HDEL', homes, '') end

-- How many deliveries and outcomes the queue holds, in every place there is: what MAX_QUEUE_LENGTH bounds. A delivery that has
-- failed and waits counts once more for its outcome until that is in Postgres. Dead letters have a bound of their own.
local function queueLength()
  return redis.call('XLEN', stream) + redis.call('ZCARD', retries) + redis.call('XLEN', log)
end

-- Redis cannot say whether an entry exists without handing it over, so this counts what that has cost.
local bytesLookedAt = 0

local function entryExists(key, entryId)
  local entry = redis.call('XRANGE', key, entryId, entryId)[1]
  if not entry then return false end
  for _, text in ipairs(entry[2]) do bytesLookedAt = bytesLookedAt + #text end
  return true
end

-- Which kind of place `home` names: 'stream', 'retry' or 'log'. False when there is no home, or when it names an entry,
-- retry or log entry that no longer exists (trimmed, or deleted by hand).
local function realHome(deliveryId, home)
  if not home then return false end
  if home == 'retry' then
    return redis.call('ZSCORE', retries, deliveryId) and redis.call('HEXISTS', retriesData, deliveryId) == 1 and 'retry'
  end
  if string.find(home, '^%d+%-%d+$') then return entryExists(stream, home) and 'stream' end
  return string.find(home, '^log:%d+%-%d+$') and entryExists(log, string.sub(home, 5)) and 'log'
end

-- Lua can pass about 8000 values to a call, and XADD takes two per field.
local LARGEST_ENTRY_VALUES = 2000
