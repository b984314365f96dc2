-- Appends each delivery to the stream once, or to its endpoint's waiting list when others wait there: a delivery that
-- already has a home is not appended again.
-- ARGV  maxLength, then per delivery: deliveryId, number of names and values that follow, field, value, ...
-- Returns per delivery: the id of the new entry, 'waiting', the home it already had, or '' when the queue is full.
local function isTaken(deliveryId, home)
  if not home then return false end
  local kind, ends = tombstone(home)
  if kind == 'closed' and ends > present() then return true end
  return kind == nil or realHome(deliveryId, home)
end

local room = tonumber(ARGV[1]) - queueLength()
local anyInLine = redis.call('EXISTS', waiting) == 1
local results, newHomes, given, i = {}, {}, {}, 2

local function append(deliveryId, first, last)
  if anyInLine then
    local fields = {}
    for j = first, last, 2 do fields[ARGV[j]] = ARGV[j + 1] end
    local endpoint = endpointInLine(fields)
    if endpoint then
      putInLine(endpoint, deliveryId, cjson.encode(fields), false)
      return 'waiting'
    end
  end
  return redis.call('XADD', stream, '*', unpack(ARGV, first, last))
end

while i <= #ARGV do
  local deliveryId, count = ARGV[i], tonumber(ARGV[i + 1])
  local home = given[deliveryId] or redis.call('HGET', homes, deliveryId)
  if isTaken(deliveryId, home) then
    results[#results + 1] = home
  elseif room <= 0 then
    results[#results + 1] = ''
  else
    home = append(deliveryId, i + 2, i + 1 + count)
    newHomes[#newHomes + 1] = deliveryId
    newHomes[#newHomes + 1] = home
    given[deliveryId] = home
    results[#results + 1] = home
    room = room - 1
  end
  i = i + 2 + count
end
if #newHomes > 0 then redis.call('HSET', homes, unpack(newHomes)) end
return results
