-- Turns a log entry whose record Postgres refuses for good into a dead letter, once, however often it is called. Its delivery's
-- row is closed already.
-- ARGV  group, logEntryId, deliveryId, the dead letter's fields: field, value, ...
-- Returns 1 set aside, 0 when it was before.
local group, logEntryId, deliveryId = ARGV[1], ARGV[2], ARGV[3]
mayWriteWhenFull() -- the letter takes the log entry's place
redis.call('XLEN', dead) -- a key of the wrong type must fail here
if not entryExists(log, logEntryId) then return 0 end
redis.call('XADD', dead, '*', unpack(ARGV, 4))
if redis.call('HGET', homes, deliveryId) == 'log:' .. logEntryId then redis.call('HDEL', homes, deliveryId) end
redis.call('XACK', log, group, logEntryId)
redis.call('XDEL', log, logEntryId)
return 1
