-- ARGV  deliveryId
-- Returns where the delivery is: 'stream', 'retry', 'waiting' (for its endpoint's share), 'log' (its outcome is on its way to Postgres) or 'nowhere'.
return realHome(ARGV[1], redis.call('HGET', homes, ARGV[1])) or 'nowhere'
