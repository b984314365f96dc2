-- Appends each delivery to the stream once: a delivery that already has a home is not appended again.
-- ARGV  maxLength, then per delivery: deliveryId, number of names and values that follow, field, value, ...
-- Returns per delivery: the id of the new entry, the home it already had, or '' when the stream is full.
local function isTaken(deliveryId, home)
  if not home then return false end
  local kind, ends = tombstone(home)
  if kind == 'closed' and ends > present() then return true end
  return kind == nil or realHome(deliveryId, home)
end

local room = tonumber(ARGV[1]) - redis.call('XLEN', stream)
local results, newHomes, given, i = {}, {}, {}, 2
while i <= #ARGV do
  local deliveryId, count = ARGV[i], tonumber(ARGV[i + 1])
  local home = given[deliveryId] or redis.call('HGET', homes, deliveryId)
  if isTaken(deliveryId, home) then
    results[#results + 1] = home
  elseif room <= 0 then
    results[#results + 1] = ''
  else
    local entryId = redis.call('XADD', stream, '*', unpack(ARGV, i + 2, i + 1 + count))
    newHomes[#newHomes + 1] = deliveryId
    newHomes[#newHomes + 1] = entryId
    given[deliveryId] = entryId
    results[#results + 1] = entryId
    room = room - 1
  end
  i = i + 2 + count
end
if #newHomes > 0 then redis.call('HSET', homes, unpack(newHomes)) end
return results
