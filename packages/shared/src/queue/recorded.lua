-- Removes log entries whose records are in Postgres. A delivery's home is removed with it when it is one of these entries.
-- ARGV  group, then all logEntryIds, then all deliveryIds, in the same order
-- Returns the number removed.
local group = ARGV[1]
local count, removed = (#ARGV - 1) / 2, 0
-- Lua can pass about 8000 values to a call.
for from = 2, count + 1, 1000 do
  local to = math.min(from + 999, count + 1)
  local known = redis.call('HMGET', homes, unpack(ARGV, from + count, to + count))
  local left = {}
  for i = from, to do
    if known[i - from + 1] == 'log:' .. ARGV[i] then left[#left + 1] = ARGV[i + count] end
  end
  if #left > 0 then redis.call('HDEL', homes, unpack(left)) end
  redis.call('XACK', log, group, unpack(ARGV, from, to))
  removed = removed + redis.call('XDEL', log, unpack(ARGV, from, to))
end
return removed
