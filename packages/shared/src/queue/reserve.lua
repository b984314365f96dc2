-- Per-endpoint rate limit as GCRA: every call reserves the next free slot and returns how far away it is, so a throttled
-- delivery is put off once, for exactly as long as needed.
-- KEYS  endpointBucket
-- ARGV  rate (per second), burst (deliveries), horizonMs (no reservation beyond it)
-- Returns the delay in ms (0 = send now), or -1 when the horizon is full and nothing was reserved.
local bucket, rate, burst, horizonMs = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local interval = 1000 / rate
local arrival = math.max(now, tonumber(redis.call('GET', bucket)) or now)
-- Further away than any reservation can be, so the clock has stepped back or the settings have changed: start over.
if arrival > now + horizonMs + (burst + 1) * interval then arrival = now end
local delay = math.max(0, arrival - (burst - 1) * interval - now)
if delay > horizonMs then return -1 end
-- A script that has written may go on writing while Redis is out of memory. This no-op is that first write: without
-- reservations nothing would drain.
redis.call('PERSIST', bucket)
redis.call('SET', bucket, string.format('%.3f', arrival + interval), 'PX', math.ceil(arrival + interval - now) + 1000)
return math.ceil(delay)
