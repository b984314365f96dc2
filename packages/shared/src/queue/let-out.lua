-- Moves deliveries from the heads of waiting lists to the stream. What was let out for an endpoint must have been read
-- before more is, so that they wait in their list and not in the stream.
-- ARGV  group, mostBytes, the present time in ISO 8601 (for dead letters), then per endpoint: endpoint, count
-- Returns per endpoint how many were let out.
local group, bytesLeft, failedAt = ARGV[1], tonumber(ARGV[2]), ARGV[3]
-- A list may begin with many deliveries that were cancelled; the rest of them are skipped next time.
local looksLeft = 1000
mayWriteWhenFull() -- letting out only moves data
redis.call('XLEN', dead) -- a key of the wrong type must fail before the first write
local now = present()

-- Entry ids may have more digits than a Lua number holds.
local function isAfter(id, other)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  local otherMs, otherSeq = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= otherMs then return #ms > #otherMs or (#ms == #otherMs and ms > otherMs) end
  return #seq > #otherSeq or (#seq == #otherSeq and seq > otherSeq)
end

-- Marked, so that a delivery that must wait again goes back to where it came from.
local function marked(own)
  local fields = { 'waited', '1' }
  for i = 1, #own, 2 do
    if own[i] ~= 'waited' then
      fields[#fields + 1] = own[i]
      fields[#fields + 1] = own[i + 1]
    end
  end
  return fields
end

-- The id leaves the list last: whatever fails before, the delivery is still in it. Each is looked at once: those that are held
-- go to the end.
local function take(endpoint, count)
  local list, taken, newest = waitingList(endpoint), 0, nil
  if looksLeft == 0 then return 0 end
  local unseen = redis.call('LLEN', list)
  while taken < count and bytesLeft > 0 and looksLeft > 0 and unseen > 0 do
    looksLeft = looksLeft - 1
    unseen = unseen - 1
    local deliveryId = redis.call('LINDEX', list, 0)
    if not deliveryId then break end
    local text = redis.call('HGET', waitingData, deliveryId)
    local place = text and realHome(deliveryId, redis.call('HGET', homes, deliveryId))
    if text and (not place or place == 'waiting') then
      local fields = decodeEntry(text)
      if fields then
        newest = redis.call('XADD', stream, '*', unpack(marked(fields)))
        redis.call('HSET', homes, deliveryId, newest)
        taken = taken + 1
        bytesLeft = bytesLeft - #text
      else
        -- Reconcile rebuilds the delivery from its row, if it has one.
        redis.call('XADD', dead, '*', 'kind', 'entry', 'id', deliveryId, 'data', text, 'failed_at', failedAt,
          'reason', 'data in the waiting list is not a JSON object of strings')
        redis.call('HDEL', homes, deliveryId)
      end
    end
    if place == 'closing' then
      redis.call('RPUSH', list, deliveryId) -- a person's action holds it
    elseif text then
      redis.call('HDEL', waitingData, deliveryId)
    end
    redis.call('LPOP', list)
  end
  if newest then redis.call('HSET', letOut, endpoint, newest) end
  -- Behind those that had their turn and no room; and if it has used up the looks, behind those that got none.
  if newest or looksLeft == 0 then redis.call('ZADD', waiting, 'XX', 'GT', now + 0.5, endpoint) end
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
