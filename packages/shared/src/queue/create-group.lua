-- Creates a consumer group, and its stream, unless they are there: also while Redis is out of memory. Otherwise no dispatcher
-- could start, and nothing would free the memory.
-- KEYS  stream
-- ARGV  group
local stream, group = KEYS[1], ARGV[1]
-- A script that has written may go on writing while Redis is out of memory. This no-op is that first write.
redis.call('XACK', stream, group, '0-0')
-- From 0, not $: entries added before the group existed must be delivered too.
local created = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
if created.err and not string.find(created.err, 'BUSYGROUP') then return created end
return 'OK'
