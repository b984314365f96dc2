-- Shared first lines of the scripts that move deliveries; script.ts puts them in front of the script's own text.
-- KEYS  stream, homes, retries, retriesData, log, dead, epoch, waiting, waitingData, letOut (the same for every script; the
--       endpoints' waiting lists are the only keys beside them, and waitingList names those)
local stream, homes, retries, retriesData, log, dead, epoch, waiting, waitingData, letOut = unpack(KEYS)

-- Once a script has written, Redis lets it go on writing even when out of memory. This no-op is that first write, for
-- scripts that free memory or only move data.
local function mayWriteWhenFull() redis.call('HDEL', homes, '') end

local function entryExists(key, entryId) return #redis.call('XRANGE', key, entryId, entryId) > 0 end

-- Which kind of place `home` names: 'stream', 'retry', 'waiting' or 'log'. False when there is no home, or when it names an entry,
-- retry or log entry that no longer exists (trimmed, or deleted by hand).
local function realHome(deliveryId, home)
  if not home then return false end
  if home == 'retry' then
    return redis.call('ZSCORE', retries, deliveryId) and redis.call('HEXISTS', retriesData, deliveryId) == 1 and 'retry'
  end
  if home == 'waiting' then return redis.call('HEXISTS', waitingData, deliveryId) == 1 and 'waiting' end
  if string.find(home, '^%d+%-%d+$') then return entryExists(stream, home) and 'stream' end
  return string.find(home, '^log:%d+%-%d+$') and entryExists(log, string.sub(home, 5)) and 'log'
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
--   waiting         zset   endpoint -> the moment (ms) before which nothing is let out; lowest first, so endpoints take turns
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
