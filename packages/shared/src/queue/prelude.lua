-- Shared first lines of the scripts that move deliveries; script.ts puts them in front of the script's own text.
-- KEYS  stream, homes, retries, retriesData, log, dead, epoch, tombstones, waiting, waitingData, letOut (the same for every
--       script; the endpoints' waiting lists are the only keys beside them, and waitingList names those)
local stream, homes, retries, retriesData, log, dead, epoch, tombstones, waiting, waitingData, letOut = unpack(KEYS)

-- Whether Redis refuses what takes memory. To be asked before the script's first write: it writes nothing itself.
local function isOutOfMemory()
  local reply = redis.pcall('SETRANGE', epoch, 0, '')
  return type(reply) == 'table' and reply.err ~= nil and string.find(reply.err, 'OOM', 1, true) ~= nil
end

-- Once a script has written, Redis lets it go on writing even when out of memory. This no-op is that first write, for
-- scripts that free memory or only move data.
local function mayWriteWhenFull() redis.call('HDEL', homes, '') end

-- How many deliveries and outcomes the queue holds, in every place there is: what MAX_QUEUE_LENGTH bounds. A delivery that has
-- failed and waits counts once more for its outcome until that is in Postgres. Dead letters have a bound of their own.
local function queueLength()
  return redis.call('XLEN', stream) + redis.call('ZCARD', retries) + redis.call('XLEN', log)
    + redis.call('HLEN', waitingData)
end

-- Redis cannot say whether an entry exists without handing it over, so this counts what that has cost.
local bytesLookedAt = 0

local function entryExists(key, entryId)
  local entry = redis.call('XRANGE', key, entryId, entryId)[1]
  if not entry then return false end
  for _, text in ipairs(entry[2]) do bytesLookedAt = bytesLookedAt + #text end
  return true
end

local function present()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function retryExists(deliveryId)
  return redis.call('ZSCORE', retries, deliveryId) and redis.call('HEXISTS', retriesData, deliveryId) == 1
end

-- A home may also be a tombstone, `<kind>:<until, in ms>[:<whose>]`, which means nothing any more after that time:
--   closing  a person's action is between Redis and Postgres: until it is done, the delivery goes nowhere. A retry stays
--            where it is, and is not promoted; what waits in a list is not let out.
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

local function isWaiting(deliveryId) return redis.call('HEXISTS', waitingData, deliveryId) == 1 end

-- Removes a tombstone; a retry or a place in a waiting list behind it is the home again.
local function unbury(deliveryId)
  if retryExists(deliveryId) then
    redis.call('HSET', homes, deliveryId, 'retry')
  elseif isWaiting(deliveryId) then
    redis.call('HSET', homes, deliveryId, 'waiting')
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

-- Which kind of place `home` names: 'stream', 'retry', 'waiting', 'log' or 'closing'. False when there is no home, or when it names an
-- entry, retry or log entry that no longer exists (trimmed, or deleted by hand), or is a tombstone without a meaning here.
local function realHome(deliveryId, home)
  if not home then return false end
  if string.find(home, '^%d+%-%d+$') then return entryExists(stream, home) and 'stream' end
  if string.find(home, '^log:%d+%-%d+$') then return entryExists(log, string.sub(home, 5)) and 'log' end
  local kind, ends = tombstone(home)
  if kind == 'closing' and ends > present() then return 'closing' end
  if (home == 'retry' or kind ~= nil) and retryExists(deliveryId) then return 'retry' end
  return (home == 'waiting' or kind ~= nil) and isWaiting(deliveryId) and 'waiting'
end

-- Lua can pass about 8000 values to a call, and XADD takes two per field.
local LARGEST_ENTRY_VALUES = 2000

-- An entry's names and values from its JSON text, as XADD takes them and as a table. Nil for what somebody has spoiled by
-- hand: it is no JSON object of strings, or more than XADD takes.
local function decodeEntry(text)
  local ok, data = pcall(cjson.decode, text)
  if not ok or type(data) ~= 'table' or next(data) == nil then return nil end
  local fields = {}
  for name, value in pairs(data) do
    if type(name) ~= 'string' or type(value) ~= 'string' then return nil end
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if #fields > LARGEST_ENTRY_VALUES then return nil end
  return fields, data
end

-- Waiting lists. What exceeds its endpoint's share waits there, in order:
--   waiting         zset   endpoint -> its last turn, or the moment (ms) before which nothing is let out; lowest first, so
--                          endpoints take turns. turns.lua tells one from the other
--   waiting:<name>  list   delivery ids of one endpoint. An id without data was cancelled and is skipped
--   waitingData     hash   delivery id -> entry fields as JSON
--   letOut          hash   endpoint -> the last entry that was let out for it

-- The name holds a digest unless the endpoint is an id: a URL's path may be a credential, and everyone sees key names.
local function waitingList(endpoint)
  local isId = string.find(endpoint, '^%x+%-%x+%-%x+%-%x+%-%x+$')
  return waiting .. ':' .. (isId and endpoint or redis.sha1hex(endpoint))
end

-- Puts a delivery into its endpoint's list; `isFirst` when it has waited before. The caller writes its home. The list comes
-- first: if it fails, nothing was written, and an id without data is skipped.
local function putInLine(endpoint, deliveryId, text, isFirst)
  redis.call(isFirst and 'LPUSH' or 'RPUSH', waitingList(endpoint), deliveryId)
  redis.call('HSET', waitingData, deliveryId, text)
  redis.call('ZADD', waiting, 'NX', 0, endpoint)
end

-- The endpoint as the dispatcher calls it, when others wait for it already; nil otherwise. Knows a URL as it is usually
-- written: one spelled differently only takes the longer way, through a dispatcher.
local function endpointInLine(fields)
  local endpoint = fields.endpoint_id
  if endpoint and endpoint ~= '' then
    endpoint = string.lower(endpoint)
  else
    endpoint = string.match(fields.webhook_url or '', '^[^?#]*')
    if string.find(endpoint, '^%w+://[^/]+$') then endpoint = endpoint .. '/' end
  end
  return redis.call('ZSCORE', waiting, endpoint) and endpoint
end

-- The newest entry that the group has read; '0-0' when there is no group yet.
local function lastRead(group)
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local facts = {}
    for i = 1, #info, 2 do facts[info[i]] = info[i + 1] end
    if facts.name == group then return facts['last-delivered-id'] end
  end
  return '0-0'
end
