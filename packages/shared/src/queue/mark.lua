-- Notes that a consumer runs an entry that was read too often, and whether nothing else is in flight there. It takes the note
-- back when it has survived, so what stays are deaths. Noting the same again changes nothing.
-- KEYS  mark
-- ARGV  consumer, isAlone (1 or 0)
local mark, consumer, isAlone = KEYS[1], ARGV[1], ARGV[2]
-- A script that has written may go on writing while Redis is out of memory. This no-op is that first write.
redis.call('HDEL', mark, '')
redis.call('HSET', mark, consumer, isAlone)
redis.call('PEXPIRE', mark, 86400000) -- an entry that ends elsewhere leaves its notes behind
