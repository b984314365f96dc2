-- Global token bucket on the server's clock.
-- KEYS  bucket
-- ARGV  rate (tokens per second), burst (capacity), want (tokens), batch (tokens worth waiting for)
-- Returns { granted, ms until `batch` tokens are there }. Grants the whole tokens in the bucket, up to `want`, or 0.
local bucket, rate, burst, want, batch = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- A script that has written may go on writing while Redis is out of memory. This no-op is that first write: without tokens
-- nothing would drain.
redis.call('HDEL', bucket, '')
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local state = redis.call('HMGET', bucket, 'tokens', 'at')
local tokens, at = tonumber(state[1]) or burst, tonumber(state[2]) or now
-- The clock may step back after a failover: this call then refills nothing, and the next ones count from the new time.
if now > at then tokens = math.min(burst, tokens + (now - at) * rate / 1000) end
local granted = math.min(want, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', bucket, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.3f', now))
redis.call('PEXPIRE', bucket, 60000)
return { granted, math.max(1, math.ceil((math.min(batch, burst) - tokens) * 1000 / rate)) }
