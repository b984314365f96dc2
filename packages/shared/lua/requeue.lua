-- Sends a delivery again at once (manual retry, replay of a dead letter). A waiting retry is replaced by the new entry.
-- KEYS  stream, retries, retriesData, inflight, dead
-- ARGV  deliveryId, deadEntryId ('' when none), field, value, ...
-- Returns { 'requeued', entryId }, or { 'queued' } it is already in the stream, { 'unrecorded' } its last outcome is on
-- its way to Postgres, { 'gone' } the dead letter no longer exists. Only 'requeued' changes anything.
local stream, retries, retriesData, inflight, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local deliveryId, deadEntryId = ARGV[1], ARGV[2]
local current = redis.call('HGET', inflight, deliveryId)
if current and string.sub(current, 1, 4) == 'log:' then return { 'unrecorded' } end
if current and current ~= 'retry' and #redis.call('XRANGE', stream, current, current) > 0 then return { 'queued' } end
if deadEntryId ~= '' and #redis.call('XRANGE', dead, deadEntryId, deadEntryId) == 0 then return { 'gone' } end
local entryId = redis.call('XADD', stream, '*', unpack(ARGV, 3))
redis.call('HSET', inflight, deliveryId, entryId)
redis.call('ZREM', retries, deliveryId)
redis.call('HDEL', retriesData, deliveryId)
if deadEntryId ~= '' then redis.call('XDEL', dead, deadEntryId) end
return { 'requeued', entryId }
