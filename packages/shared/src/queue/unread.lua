-- Looks ahead in the stream.
-- ARGV  group, limit, mostBytes
-- Returns { more (1 when the look ended at a limit), then per entry that no dispatcher has read: { entryId, fields } }.
local group, limit, bytesLeft = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local PER_LOOK = 20
local from = redis.call('EXISTS', stream) == 1 and '(' .. lastRead(group)
local result = { 0 }
while from do
  if #result > limit or bytesLeft <= 0 then
    result[1] = 1
    break
  end
  local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', PER_LOOK)
  for _, entry in ipairs(entries) do
    result[#result + 1] = entry
    for _, text in ipairs(entry[2]) do bytesLeft = bytesLeft - #text end
    from = '(' .. entry[1]
  end
  if #entries < PER_LOOK then break end
end
return result
