-- Removes the marks of deliveries that `homeless` took for lost and that are not to be injected.
-- ARGV  marker, deliveryId...
-- Returns the number of marks removed.
local marker, removed = ARGV[1], 0
mayWriteWhenFull() -- unmarking frees memory
for i = 2, #ARGV do
  local home = redis.call('HGET', homes, ARGV[i])
  local kind, _, whose = tombstone(home or '')
  if kind == 'lost' and whose == marker then
    unbury(ARGV[i])
    removed = removed + 1
  end
end
return removed
