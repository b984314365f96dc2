-- Sends a delivery again at once (manual retry, replay of a dead letter). A waiting retry is replaced by the new entry.
-- ARGV  deliveryId, deadEntryId ('' when none), field, value, ...
-- Returns { 'requeued', entryId }; or, having changed nothing, { 'queued' } when it is already in the stream or waits for its endpoint,
-- { 'unrecorded' } when its last outcome is on its way to Postgres, { 'gone' } when the dead letter no longer exists.
local deliveryId, deadEntryId = ARGV[1], ARGV[2]
local place = realHome(deliveryId, redis.call('HGET', homes, deliveryId))
if place == 'log' then return { 'unrecorded' } end
if place == 'stream' or place == 'waiting' then return { 'queued' } end
if deadEntryId ~= '' and not entryExists(dead, deadEntryId) then return { 'gone' } end
local entryId = redis.call('XADD', stream, '*', unpack(ARGV, 3))
redis.call('HSET', homes, deliveryId, entryId)
redis.call('ZREM', retries, deliveryId)
redis.call('HDEL', retriesData, deliveryId)
if deadEntryId ~= '' then redis.call('XDEL', dead, deadEntryId) end
return { 'requeued', entryId }
