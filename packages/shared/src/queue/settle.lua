-- Settles a batch of entries: first puts the deliveries where they belong now (retries, dead, log), then acks and deletes
-- the entries, because a script that fails half-way is not rolled back. Running it again changes nothing.
-- ARGV  group, consumer, then per entry:
--       entryId, deliveryId, attempt, kind (success | retry | dead | defer | wait | rewait), delayMs (retry, defer),
--       fields (JSON object: the next entry for retry, defer, wait and rewait, the dead letter for dead, otherwise ''),
--       record (JSON or ''), endpoint (wait, rewait: whose waiting list; rewait: at its head)
-- Returns per entry: 1 settled, 2 late success (somebody else had taken the delivery on), 0 stale (nothing changed).
local group, consumer = ARGV[1], ARGV[2]
local isFull = isOutOfMemory()
mayWriteWhenFull() -- settling frees memory
-- A key of the wrong type must fail here, before the first write: failing later, every repeat would add another dead letter.
redis.call('ZCARD', retries)
redis.call('HLEN', retriesData)
redis.call('ZCARD', waiting)
redis.call('HLEN', waitingData)
redis.call('XLEN', dead)
redis.call('XLEN', log)
local now = present()

-- A retry takes several times the memory of the entry that it replaces. So while Redis is full it holds this many. The others
-- are left to their rows in Postgres: reconcile brings them back when there is room.
local MOST_RETRIES_WHEN_FULL = 100

-- The deliveries' homes from now on (false: none), and the settled entries. Both are written once per batch, because one
-- call for all costs much less than one per entry: this made the script a third faster.
local newHomes, settledIds = {}, {}

-- Until its record is in Postgres, the delivery's home is the log entry, so that reconcile does not inject it again.
local function writeLog(deliveryId, record, isFinal)
  local home = false
  if record ~= '' then
    home = 'log:' .. redis.call('XADD', log, '*', 'delivery_id', deliveryId, 'record', record)
  end
  if isFinal then newHomes[deliveryId] = home end
end

-- Anybody may write an entry with thousands of fields, more than XADD can take from Lua: it is kept as one text.
local function writeDeadLetter(text)
  local letter, data = {}, cjson.decode(text)
  for name, value in pairs(data) do
    letter[#letter + 1] = name
    letter[#letter + 1] = value
  end
  if #letter > LARGEST_ENTRY_VALUES then
    letter = { 'kind', data.kind or '', 'id', data.id or '', 'reason', data.reason or '', 'failed_at', data.failed_at or '', 'data', text }
  end
  redis.call('XADD', dead, '*', unpack(letter))
end

-- The dead letter that another dispatcher's failure may have left a moment ago: among the newest 200, and in at most a megabyte
-- of them. They are read once per batch, so that the look is short however many ask. An older one stays for a person; the
-- success is recorded all the same.
local recentLetters
local function recentDeadLetter(deliveryId)
  if recentLetters then return recentLetters[deliveryId] end
  recentLetters = {}
  local newest, bytes, PER_LOOK = '+', 0, 4
  for _ = 1, 200 / PER_LOOK do
    local letters = redis.call('XREVRANGE', dead, newest, '-', 'COUNT', PER_LOOK)
    for _, letter in ipairs(letters) do
      local fields = letter[2]
      for i = 1, #fields, 2 do
        bytes = bytes + #fields[i + 1]
        if fields[i] == 'id' and not recentLetters[fields[i + 1]] then recentLetters[fields[i + 1]] = letter[1] end
      end
    end
    if #letters < PER_LOOK or bytes > 1000000 then break end
    newest = '(' .. letters[PER_LOOK][1]
  end
  return recentLetters[deliveryId]
end

-- Whether a person has asked for the waiting entry or retry after this attempt: the retry schedule starts over there.
local function isSentAnew(deliveryId, place, home, attempt)
  local start
  if place == 'stream' then
    local fields = redis.call('XRANGE', stream, home, home)[1][2]
    for i = 1, #fields, 2 do
      if fields[i] == 'schedule_start' then start = fields[i + 1] end
    end
  elseif place == 'retry' or place == 'waiting' then
    local key = place == 'retry' and retriesData or waitingData
    local ok, data = pcall(cjson.decode, redis.call('HGET', key, deliveryId))
    start = ok and type(data) == 'table' and data.schedule_start
  end
  return (tonumber(start) or 1) > attempt
end

-- A 2xx that comes when the entry is no longer pending: its dispatcher had stalled or was cut off, and another has failed with
-- the delivery, put it off, ended it, or is trying again right now. The receiver has it, so whatever was to follow is
-- withdrawn; an attempt that runs elsewhere comes to nothing, since its entry is gone.
local function settleLate(deliveryId, attempt, record)
  local home = newHomes[deliveryId]
  if home == nil then home = redis.call('HGET', homes, deliveryId) end
  local place = realHome(deliveryId, home)
  if isSentAnew(deliveryId, place, home, attempt) then
    writeLog(deliveryId, record, false)
    return 2
  end
  if place == 'stream' then
    redis.call('XACK', stream, group, home)
    redis.call('XDEL', stream, home)
  elseif place == 'retry' then
    redis.call('ZREM', retries, deliveryId)
    redis.call('HDEL', retriesData, deliveryId)
  elseif place == 'waiting' then
    redis.call('HDEL', waitingData, deliveryId)
  else
    -- What a person's action holds would go on when the record is in Postgres and the home is gone.
    if place == 'closing' then
      redis.call('ZREM', retries, deliveryId)
      redis.call('HDEL', retriesData, deliveryId)
      redis.call('HDEL', waitingData, deliveryId)
    end
    local letter = recentDeadLetter(deliveryId)
    -- An outcome that waits to be recorded and has left no dead letter is a success already, most often this very one.
    if place == 'log' and not letter then return 0 end
    if letter then redis.call('XDEL', dead, letter) end
  end
  -- Recorded even if nothing was withdrawn: Redis may have lost its data, and recording an attempt twice changes nothing.
  writeLog(deliveryId, record, true)
  return 2
end

-- Settles one entry; returns 1, 2 or 0, as the script does.
local function settle(entryId, deliveryId, attempt, kind, delayMs, fields, record, endpoint)
  local pending = redis.call('XPENDING', stream, group, entryId, entryId, 1)[1]
  local settled = 0
  if kind == 'success' then
    -- A 2xx counts no matter who owns the entry by now; a failure counts only when it comes from the owner.
    if not pending then return settleLate(deliveryId, attempt, record) end
    writeLog(deliveryId, record, true)
    settled = 1
  elseif pending and pending[2] == consumer then
    if kind == 'dead' then
      writeDeadLetter(fields)
      writeLog(deliveryId, record, true)
    elseif isFull and kind == 'retry' and record ~= '' and redis.call('ZCARD', retries) >= MOST_RETRIES_WHEN_FULL then
      writeLog(deliveryId, record, true)
    elseif kind == 'wait' or kind == 'rewait' then
      putInLine(endpoint, deliveryId, fields, kind == 'rewait')
      newHomes[deliveryId] = 'waiting'
    else
      redis.call('HSET', retriesData, deliveryId, fields)
      redis.call('ZADD', retries, now + delayMs, deliveryId)
      newHomes[deliveryId] = 'retry'
      writeLog(deliveryId, record, false)
    end
    settled = 1
  end
  if pending and settled > 0 then settledIds[#settledIds + 1] = entryId end
  return settled
end

local results = {}
local ok, fault = pcall(function()
  for i = 3, #ARGV, 8 do
    results[#results + 1] = settle(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], tonumber(ARGV[i + 4]),
      ARGV[i + 5], ARGV[i + 6], ARGV[i + 7])
  end
end)
-- This runs even when one entry has failed, so that the entries settled before it get their homes and are acked.
local kept, gone = {}, {}
for deliveryId, home in pairs(newHomes) do
  if home then
    kept[#kept + 1] = deliveryId
    kept[#kept + 1] = home
  else
    gone[#gone + 1] = deliveryId
  end
end
if #kept > 0 then redis.call('HSET', homes, unpack(kept)) end
if #gone > 0 then redis.call('HDEL', homes, unpack(gone)) end
if #settledIds > 0 then
  redis.call('XACK', stream, group, unpack(settledIds))
  redis.call('XDEL', stream, unpack(settledIds))
end
if not ok then error(fault) end
return results
