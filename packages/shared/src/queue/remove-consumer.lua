-- Removes a consumer that owns nothing. XGROUP DELCONSUMER alone would drop its pending entries.
-- KEYS  stream
-- ARGV  group, consumer
-- Returns 1 removed, 0 it still owns entries.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
