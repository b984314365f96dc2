-- Moves due retries back to the stream, or to their endpoint's waiting list when others wait there: all of them or none, so
-- any number of schedulers may run it without a lock.
-- A retry whose delivery has another home (a settlement failed half-way, or it was added by hand) is dropped.
-- ARGV  limit, the present time in ISO 8601 (for dead letters)
-- Returns { moved, ms until the next due retry or -1, retries that could not be read, 1 when the epoch exists else 0 }.
local limit, failedAt = ARGV[1], ARGV[2]
mayWriteWhenFull() -- promoting only moves data
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local ids = redis.call('ZRANGEBYSCORE', retries, '-inf', now, 'LIMIT', 0, limit)
local moved, unreadable = 0, 0
if #ids > 0 then
  local texts = redis.call('HMGET', retriesData, unpack(ids))
  local known = redis.call('HMGET', homes, unpack(ids))
  -- A key of the wrong type must fail here, before the first write: failing later, every repeat would add another entry.
  redis.call('XLEN', stream)
  redis.call('XLEN', dead)
  local anyInLine = redis.call('ZCARD', waiting) > 0
  for i, id in ipairs(ids) do
    local fields, data
    if texts[i] then fields, data = decodeEntry(texts[i]) end
    local endpoint = fields and anyInLine and endpointInLine(data)
    if known[i] ~= 'retry' and realHome(id, known[i]) then
      -- It has another home: dropped below.
    elseif endpoint then
      putInLine(endpoint, id, texts[i], false)
      redis.call('HSET', homes, id, 'waiting')
      moved = moved + 1
    elseif fields then
      redis.call('HSET', homes, id, redis.call('XADD', stream, '*', unpack(fields)))
      moved = moved + 1
    else
      -- Reconcile rebuilds the delivery from its row, if it has one.
      redis.call('XADD', dead, '*', 'kind', 'entry', 'id', id, 'data', texts[i] or '', 'failed_at', failedAt,
        'reason', 'retry data is missing or is not a JSON object of strings')
      redis.call('HDEL', homes, id)
      unreadable = unreadable + 1
    end
  end
  redis.call('ZREM', retries, unpack(ids))
  redis.call('HDEL', retriesData, unpack(ids))
end
local upcoming = redis.call('ZRANGE', retries, 0, 0, 'WITHSCORES')
local wait = -1
if upcoming[2] then wait = math.max(0, math.ceil(tonumber(upcoming[2]) - now)) end
return { moved, wait, unreadable, redis.call('EXISTS', epoch) }
