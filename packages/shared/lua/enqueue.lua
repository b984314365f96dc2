-- Appends deliveries to the stream, once each: a delivery that already has a home is not appended again.
-- KEYS  stream, inflight
-- ARGV  maxLength, then per delivery: deliveryId, fieldCount (names + values), field, value, ...
-- Returns per delivery: the entry id, or what `inflight` already held, or '' when the stream is full.
local stream, inflight = KEYS[1], KEYS[2]
local room = tonumber(ARGV[1]) - redis.call('XLEN', stream)
local results, places, given, i = {}, {}, {}, 2
while i <= #ARGV do
  local deliveryId, count = ARGV[i], tonumber(ARGV[i + 1])
  local current = given[deliveryId] or redis.call('HGET', inflight, deliveryId)
  if current then
    results[#results + 1] = current
  elseif room <= 0 then
    results[#results + 1] = ''
  else
    local entryId = redis.call('XADD', stream, '*', unpack(ARGV, i + 2, i + 1 + count))
    places[#places + 1] = deliveryId
    places[#places + 1] = entryId
    given[deliveryId] = entryId
    results[#results + 1] = entryId
    room = room - 1
  end
  i = i + 2 + count
end
if #places > 0 then redis.call('HSET', inflight, unpack(places)) end
return results
