-- Moves deliveries from the heads of waiting lists to the stream. What was let out for an endpoint must have been read
-- before more is, so that they wait in their list and not in the stream.
-- ARGV  group, mostBytes, the present time in ISO 8601 (for dead letters), then per endpoint: endpoint, count
-- Returns per endpoint how many were let out.
local group, bytesLeft, failedAt = ARGV[1], tonumber(ARGV[2]), ARGV[3]
-- A list may begin with many deliveries that were cancelled; the rest of them are skipped next time.
local MOST_LOOKS = 1000
mayWriteWhenFull() -- letting out only moves data

-- Entry ids may have more digits than a Lua number holds.
local function isAfter(id, other)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  local otherMs, otherSeq = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= otherMs then return #ms > #otherMs or (#ms == #otherMs and ms > otherMs) end
  return #seq > #otherSeq or (#seq == #otherSeq and seq > otherSeq)
end

-- Nil for data that somebody has spoiled by hand: it becomes a dead letter, and reconcile rebuilds the delivery from its row.
local function fieldsOf(text)
  local fields = { 'waited', '1' }
  local ok, data = pcall(cjson.decode, text)
  if not ok or type(data) ~= 'table' then return nil end
  for name, value in pairs(data) do
    if type(value) ~= 'string' then return nil end
    if name ~= 'waited' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  return fields
end

local function take(endpoint, count)
  local list, taken, newest, looks = waitingList(endpoint), 0, nil, 0
  while taken < count and bytesLeft > 0 and looks < MOST_LOOKS do
    looks = looks + 1
    local deliveryId = redis.call('LPOP', list)
    if not deliveryId then break end
    local text = redis.call('HGET', waitingData, deliveryId)
    local place = text and realHome(deliveryId, redis.call('HGET', homes, deliveryId))
    local mayGo = text and (not place or place == 'waiting')
    local fields = mayGo and fieldsOf(text)
    if place == 'closing' then
      redis.call('RPUSH', list, deliveryId) -- a person's action holds it
    elseif fields then
      newest = redis.call('XADD', stream, '*', unpack(fields))
      redis.call('HSET', homes, deliveryId, newest)
      taken = taken + 1
      bytesLeft = bytesLeft - #text
    elseif mayGo then
      redis.call('XADD', dead, '*', 'kind', 'entry', 'id', deliveryId, 'data', text, 'failed_at', failedAt,
        'reason', 'data in the waiting list is not a JSON object of strings')
      redis.call('HDEL', homes, deliveryId)
    end
    if text and place ~= 'closing' then redis.call('HDEL', waitingData, deliveryId) end
  end
  if newest then redis.call('HSET', letOut, endpoint, newest) end
  return taken
end

local read = redis.call('EXISTS', stream) == 1 and lastRead(group) or '0-0'
local results = {}
for i = 4, #ARGV, 2 do
  local endpoint, before = ARGV[i], redis.call('HGET', letOut, ARGV[i])
  local isUnread = before and isAfter(before, read) and entryExists(stream, before)
  results[#results + 1] = isUnread and 0 or take(endpoint, tonumber(ARGV[i + 1]))
end
return results
