-- Counts the runs of an entry that was read too often: those that were begun and have not ended, and how many of these had
-- their dispatcher to themselves. A dispatcher that survives takes its own back, so what stays are deaths.
-- KEYS  mark
-- ARGV  begun, alone (what to add to each)
local mark, begun, alone = KEYS[1], ARGV[1], ARGV[2]
-- A script that has written may go on writing while Redis is out of memory. This no-op is that first write.
redis.call('HDEL', mark, '')
redis.call('HINCRBY', mark, 'begun', begun)
redis.call('HINCRBY', mark, 'alone', alone)
redis.call('PEXPIRE', mark, 86400000) -- an entry that ends elsewhere leaves its mark behind
