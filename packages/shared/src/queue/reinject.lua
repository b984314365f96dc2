-- For reconcile: puts deliveries that Redis has lost back, into the stream or among the retries, unless they have a home.
-- ARGV  maxLength, then per delivery: deliveryId, dueAt (ms since 1970; 0 or past = now), fields (JSON object of strings)
-- Returns per delivery: 1 injected, 0 when it already has a home, -1 when the queue is full.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room, results = tonumber(ARGV[1]) - queueLength(), {}
for i = 2, #ARGV, 3 do
  local deliveryId, dueAt, text = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local injected = 0
  if redis.call('HEXISTS', homes, deliveryId) == 0 then
    if realHome(deliveryId, 'retry') then
      -- The retry is still there; only its home was lost.
      redis.call('HSET', homes, deliveryId, 'retry')
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
  end
  room = room - math.max(0, injected)
  results[#results + 1] = injected
end
return results
