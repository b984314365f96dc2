-- Lets nothing out for an endpoint for a while. Never shortens what was asked for before.
-- ARGV  endpoint, ms
mayWriteWhenFull() -- one small member
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', waiting, 'GT', now + tonumber(ARGV[2]), ARGV[1])
return 0
