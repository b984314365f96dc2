-- Holds a delivery in Redis while a person's action on it (sending again, cancelling) is carried out in Postgres: its home
-- becomes a tombstone, so that nothing else happens to it meanwhile. Nothing is taken away: `let-go` restores what was
-- there, and the passing of time does so if the process dies. A retry, and what waits in a list, stays where it is. So that a cancelled delivery
-- cannot be read, its unread entry becomes a retry. Holding again changes nothing.
-- ARGV  group, deliveryId, holder, ms, purpose (resend | cancel), deadEntryId ('' when none), takeOver ('1': when it is held to
--       be cancelled, the hold is taken over, because Postgres says that it is cancelled and its holder may have died)
-- Returns 'held'; or, having changed nothing, 'closed' (only with takeOver: it has been taken out already), 'queued' (in the
-- stream or a waiting list, when it is to be sent again), 'in_flight' (an attempt is running), 'unrecorded' (settled, but not
-- yet in Postgres), 'busy' (held by another) or 'gone' (no such dead letter).
local group, deliveryId, holder, ms, purpose, deadEntryId, takeOver = unpack(ARGV)
local home = redis.call('HGET', homes, deliveryId)
local place = realHome(deliveryId, home)
if place == 'closing' then
  if isHeldBy(home, holder) then return 'held' end
  local _, _, whose = tombstone(home)
  if takeOver ~= '1' or string.sub(whose, 1, 6) ~= 'cancel' then return 'busy' end
end
if takeOver == '1' and home and not place then
  local kind, ends = tombstone(home)
  if kind == 'closed' and ends > present() then return 'closed' end
end
if place == 'log' then return 'unrecorded' end
if (place == 'stream' or place == 'waiting') and purpose == 'resend' then return 'queued' end
if deadEntryId ~= '' and not entryExists(dead, deadEntryId) then return 'gone' end
if purpose == 'cancel' then mayWriteWhenFull() end -- cancelling frees memory
if place == 'stream' then
  -- No group yet (NOGROUP) means that no dispatcher has read anything.
  local pending = redis.pcall('XPENDING', stream, group, home, home, 1)
  local flat, fields = redis.call('XRANGE', stream, home, home)[1][2], {}
  -- `promote` could not put a larger entry back.
  if (not pending.err and #pending > 0) or #flat > LARGEST_ENTRY_VALUES then return 'in_flight' end
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  redis.call('HSET', retriesData, deliveryId, cjson.encode(fields))
  redis.call('ZADD', retries, present(), deliveryId)
end
bury(deliveryId, 'closing', present() + tonumber(ms), holder)
if place == 'stream' then redis.call('XDEL', stream, home) end
return 'held'
