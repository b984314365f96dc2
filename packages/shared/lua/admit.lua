-- Gives each entry just read the delivery's single place in `inflight`. An entry whose delivery already lives elsewhere
-- (another entry, a waiting retry, an unrecorded outcome) is a duplicate and is removed.
-- KEYS  stream, inflight
-- ARGV  group, then per entry: entryId, deliveryId
-- Returns per entry: 1 admitted, 0 removed as a duplicate.
local stream, inflight, group = KEYS[1], KEYS[2], ARGV[1]
-- A script that has written may go on writing while Redis is out of memory; this no-op is that first write. What is read must get on.
redis.call('HDEL', inflight, '')
local results = {}
for i = 2, #ARGV, 2 do
  local entryId, deliveryId = ARGV[i], ARGV[i + 1]
  local current = redis.call('HGET', inflight, deliveryId)
  local admitted = current == entryId
  if not admitted then
    -- An entry id that the stream no longer holds is left over from a trim or a deletion by hand.
    local isStale = current and string.find(current, '^%d+%-%d+$')
      and #redis.call('XRANGE', stream, current, current) == 0
    if not current or isStale then
      redis.call('HSET', inflight, deliveryId, entryId)
      admitted = true
    else
      redis.call('XACK', stream, group, entryId)
      redis.call('XDEL', stream, entryId)
    end
  end
  results[#results + 1] = admitted and 1 or 0
end
return results
