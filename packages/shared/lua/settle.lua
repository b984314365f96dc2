-- Settles a batch of entries: writes each delivery's new home first (retries, dead, log), then acks and deletes the entry,
-- because a script that fails half-way is not rolled back. Running it again changes nothing.
-- KEYS  stream, retries, retriesData, dead, log, inflight
-- ARGV  group, consumer, then per entry:
--       entryId, deliveryId, attempt, outcome (success | retry | dead | defer), delayMs (retry, defer),
--       fields (JSON object: the next entry for retry and defer, the dead letter for dead, else ''), record (JSON or '')
-- Returns per entry: 1 settled, 2 late success that cancelled a waiting retry, 0 stale, nothing changed.
local stream, retries, retriesData, dead, log, inflight = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, consumer = ARGV[1], ARGV[2]
-- A script that has written may go on writing while Redis is out of memory; this no-op is that first write. Settling frees memory.
redis.call('HDEL', retriesData, '')
-- A key of the wrong type fails here, before anything is written: after a dead letter is, every repeat would add another.
redis.call('ZCARD', retries)
redis.call('XLEN', dead)
redis.call('XLEN', log)
redis.call('HLEN', inflight)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Until the record is in Postgres the delivery lives in the log stream; reconcile must not inject it again.
local function writeLog(deliveryId, record, isFinal)
  local home = false
  if record ~= '' then
    home = 'log:' .. redis.call('XADD', log, '*', 'delivery_id', deliveryId, 'record', record)
  end
  if not isFinal then return end
  if home then redis.call('HSET', inflight, deliveryId, home) else redis.call('HDEL', inflight, deliveryId) end
end

-- Lua hands at most 8000 values to a call: an entry of thousands of fields, by whoever's hand, is kept as text.
local function writeDeadLetter(text)
  local letter, data = {}, cjson.decode(text)
  for name, value in pairs(data) do
    letter[#letter + 1] = name
    letter[#letter + 1] = value
  end
  if #letter > 2000 then
    letter = { 'id', data.id or '', 'reason', data.reason or '', 'failed_at', data.failed_at or '', 'data', text }
  end
  redis.call('XADD', dead, '*', unpack(letter))
end

local results = {}
for i = 3, #ARGV, 7 do
  local entryId, deliveryId, attempt, outcome = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local delayMs, fields, record = tonumber(ARGV[i + 4]), ARGV[i + 5], ARGV[i + 6]
  local pending = redis.call('XPENDING', stream, group, entryId, entryId, 1)[1]
  local settled = 0
  if outcome == 'success' then
    -- A 2xx is true whoever owns the entry by now; a failure counts only from the owner.
    if pending then
      writeLog(deliveryId, record, true)
      settled = 1
    else
      local waiting = redis.call('HGET', retriesData, deliveryId)
      local ok, data = pcall(cjson.decode, waiting or '')
      local waitingAttempt = ok and type(data) == 'table' and tonumber(data.attempt)
      -- The new owner has failed this attempt, or deferred it.
      if waitingAttempt == attempt + 1 or waitingAttempt == attempt then
        writeLog(deliveryId, record, true)
        redis.call('ZREM', retries, deliveryId)
        redis.call('HDEL', retriesData, deliveryId)
        settled = 2
      end
    end
  elseif pending and pending[2] == consumer then
    if outcome == 'dead' then
      writeDeadLetter(fields)
      writeLog(deliveryId, record, true)
    else
      redis.call('HSET', retriesData, deliveryId, fields)
      redis.call('ZADD', retries, now + delayMs, deliveryId)
      redis.call('HSET', inflight, deliveryId, 'retry')
      writeLog(deliveryId, record, false)
    end
    settled = 1
  end
  if pending and settled > 0 then
    redis.call('XACK', stream, group, entryId)
    redis.call('XDEL', stream, entryId)
  end
  results[#results + 1] = settled
end
return results
