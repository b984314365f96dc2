-- For reconcile: puts deliveries that Redis has lost back, into the stream or among the retries, if they still have the mark
-- that `homeless` gave them. Without it, something has happened to them since.
-- ARGV  marker, then per delivery: deliveryId, dueAt (ms since 1970; 0 or past = now), fields (JSON object of strings)
-- Returns per delivery: 1 injected, 0 when it no longer has the mark.
local marker, now = ARGV[1], present()
local results = {}
for i = 2, #ARGV, 3 do
  local deliveryId, dueAt, text = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local injected = 0
  local kind, ends, whose = tombstone(redis.call('HGET', homes, deliveryId) or '')
  if kind == 'lost' and whose == marker and ends > now then
    if retryExists(deliveryId) then
      -- The retry is still there; only its home was lost.
      redis.call('HSET', homes, deliveryId, 'retry')
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
    redis.call('ZREM', tombstones, deliveryId)
  end
  results[#results + 1] = injected
end
return results
