-- Moves due retries back to the stream, or to their endpoint's waiting list when others wait there: so many that Redis is not
-- kept busy for long. What it takes up it moves whole, so any number of schedulers may run it without a lock.
-- A retry whose delivery has another home (a settlement failed half-way, or it was added by hand) is dropped. One that is held
-- by a person's action waits until that is over. Also removes tombstones that have expired.
-- ARGV  most retries, most bytes (at least one retry is moved), the present time in ISO 8601 (for dead letters)
-- Returns { moved, ms until the next due retry or -1, retries that could not be read, 1 when the epoch exists else 0 }.
local limit, mostBytes, failedAt = ARGV[1], tonumber(ARGV[2]), ARGV[3]
mayWriteWhenFull() -- promoting only moves data
local now = present()

for _, id in ipairs(redis.call('ZRANGEBYSCORE', tombstones, '-inf', now, 'LIMIT', 0, limit)) do
  local kind, ends = tombstone(redis.call('HGET', homes, id) or '')
  if kind and ends <= now then
    unbury(id)
  elseif kind then
    redis.call('ZADD', tombstones, ends, id)
  else
    redis.call('ZREM', tombstones, id)
  end
end

local ids, texts, bytes = {}, {}, 0
for i, id in ipairs(redis.call('ZRANGEBYSCORE', retries, '-inf', now, 'LIMIT', 0, limit)) do
  local text = redis.call('HGET', retriesData, id)
  bytes = bytes + (text and #text or 0)
  if bytes > mostBytes and i > 1 then break end
  ids[i], texts[i] = id, text
end
local moved, unreadable, over, held = 0, 0, {}, {}
if #ids > 0 then
  local known = redis.call('HMGET', homes, unpack(ids))
  -- A key of the wrong type must fail here, before the first write: failing later, every repeat would add another entry.
  redis.call('XLEN', stream)
  redis.call('XLEN', dead)
  local anyInLine = redis.call('ZCARD', waiting) > 0
  for i, id in ipairs(ids) do
    local fields, data
    if texts[i] then fields, data = decodeEntry(texts[i]) end
    -- A moment that the endpoint's rate limit has reserved would pass in the line.
    local endpoint = fields and anyInLine and data.reserved ~= '1' and endpointInLine(data)
    local place = known[i] ~= 'retry' and realHome(id, known[i])
    if place == 'closing' then
      held[#held + 1] = id
    elseif place and place ~= 'retry' then
      over[#over + 1] = id -- it has another home
    elseif endpoint then
      over[#over + 1] = id
      putInLine(endpoint, id, texts[i], false)
      redis.call('HSET', homes, id, 'waiting')
      moved = moved + 1
    elseif fields then
      over[#over + 1] = id
      redis.call('HSET', homes, id, redis.call('XADD', stream, '*', unpack(fields)))
      moved = moved + 1
    else
      over[#over + 1] = id
      -- Reconcile rebuilds the delivery from its row, if it has one.
      redis.call('XADD', dead, '*', 'kind', 'entry', 'id', id, 'data', texts[i] or '', 'failed_at', failedAt,
        'reason', 'retry data is missing or is not a JSON object of strings')
      redis.call('HDEL', homes, id)
      unreadable = unreadable + 1
    end
  end
  if #over > 0 then
    redis.call('ZREM', retries, unpack(over))
    redis.call('HDEL', retriesData, unpack(over))
  end
  for _, id in ipairs(held) do
    local _, ends = tombstone(redis.call('HGET', homes, id))
    redis.call('ZADD', retries, ends, id)
  end
end
local upcoming = redis.call('ZRANGE', retries, 0, 0, 'WITHSCORES')
local wait = -1
if upcoming[2] then wait = math.max(0, math.ceil(tonumber(upcoming[2]) - now)) end
return { moved, wait, unreadable, redis.call('EXISTS', epoch) }
