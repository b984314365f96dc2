-- Makes each entry that has just been read its delivery's home. An entry whose delivery has another home (another entry,
-- a waiting retry, an unrecorded outcome) is a duplicate and is removed.
-- ARGV  group, then per entry: entryId, deliveryId
-- Returns per entry: 1 admitted; 0 removed as a duplicate, already settled by another dispatcher because the reader had
-- stalled, or left pending because a person's action on the delivery is under way.
local group = ARGV[1]
mayWriteWhenFull() -- waiting deliveries must still be read

local ids = {}
for i = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local known, newHomes, given = redis.call('HMGET', homes, unpack(ids)), {}, {}
local results = {}
for i, deliveryId in ipairs(ids) do
  local entryId = ARGV[2 * i]
  local home = given[deliveryId] or known[i]
  -- As long as this entry is the home, nobody has settled it.
  local admitted = home == entryId
  -- A missing entry has been settled, and perhaps recorded: if it became a home now, nothing would ever remove that home.
  if not admitted and entryExists(stream, entryId) then
    local place = realHome(deliveryId, home)
    if place == 'closing' then
      -- It is read again after the idle time, when that action is over.
    elseif place then
      redis.call('XACK', stream, group, entryId)
      redis.call('XDEL', stream, entryId)
    else
      newHomes[#newHomes + 1] = deliveryId
      newHomes[#newHomes + 1] = entryId
      given[deliveryId] = entryId
      admitted = true
    end
  end
  results[i] = admitted and 1 or 0
end
if #newHomes > 0 then redis.call('HSET', homes, unpack(newHomes)) end
return results
