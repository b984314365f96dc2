-- Turns a log entry whose record Postgres refuses for good into a dead letter.
-- ARGV  group, logEntryId, deliveryId, then the letter's names and values
local group, entryId, deliveryId = ARGV[1], ARGV[2], ARGV[3]
mayWriteWhenFull() -- it only moves: without this, one such record would keep the log from draining
redis.call('XADD', dead, '*', unpack(ARGV, 4))
-- Removed at once: the batch may be repeated because of another record, which must not add this letter again.
if redis.call('HGET', homes, deliveryId) == 'log:' .. entryId then redis.call('HDEL', homes, deliveryId) end
redis.call('XACK', log, group, entryId)
redis.call('XDEL', log, entryId)
return 1
