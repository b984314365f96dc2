-- Removes a consumer that owns no entries. A bare XGROUP DELCONSUMER would also drop its pending ones.
-- KEYS  stream
-- ARGV  group, consumer
-- Returns 1 removed, 0 when it still owns entries.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
