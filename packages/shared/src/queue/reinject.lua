-- For reconcile: puts deliveries that Redis has lost back, into the stream or among the retries, if they still have the mark
-- that `homeless` gave them. Without it, something has happened to them since.
-- ARGV  marker, maxLength, then per delivery: deliveryId, dueAt (ms since 1970; 0 or past = now), fields (JSON object of strings)
-- Returns per delivery: 1 injected, 0 when it no longer has the mark, -1 when the queue is full: then it keeps the mark.
local marker, now = ARGV[1], present()
local room, results = tonumber(ARGV[2]) - queueLength(), {}
for i = 3, #ARGV, 3 do
  local deliveryId, dueAt, text = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local injected = 0
  local kind, ends, whose = tombstone(redis.call('HGET', homes, deliveryId) or '')
  if kind == 'lost' and whose == marker and ends > now then
    if retryExists(deliveryId) then
      -- The retry is still there; only its home was lost.
      redis.call('HSET', homes, deliveryId, 'retry')
    elseif isWaiting(deliveryId) then
      redis.call('HSET', homes, deliveryId, 'waiting')
    elseif room <= 0 then
      injected = -1
    elseif dueAt > now then
      redis.call('HSET', retriesData, deliveryId, text)
      redis.call('ZADD', retries, dueAt, deliveryId)
      redis.call('HSET', homes, deliveryId, 'retry')
      injected = 1
    else
      local fields = {}
      for name, value in pairs(cjson.decode(text)) do
        fields[#fields + 1] = name
        fields[#fields + 1] = value
      end
      redis.call('HSET', homes, deliveryId, redis.call('XADD', stream, '*', unpack(fields)))
      injected = 1
    end
    if injected >= 0 then redis.call('ZREM', tombstones, deliveryId) end
  end
  room = room - math.max(0, injected)
  results[#results + 1] = injected
end
return results
