-- Lets nothing out for an endpoint for a while, an hour at most. Never shortens what was asked for before.
-- ARGV  endpoint, ms
mayWriteWhenFull() -- one small member
redis.call('ZADD', waiting, 'GT', present() + math.min(tonumber(ARGV[2]), LONGEST_HOLD_MS), ARGV[1])
return 0
