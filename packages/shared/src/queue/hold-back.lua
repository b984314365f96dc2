-- Lets nothing out for an endpoint for a while. Never shortens what was asked for before.
-- ARGV  endpoint, ms
mayWriteWhenFull() -- one small member
redis.call('ZADD', waiting, 'GT', present() + tonumber(ARGV[2]), ARGV[1])
return 0
