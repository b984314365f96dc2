-- Returns how many deliveries and outcomes the queue holds: the number that MAX_QUEUE_LENGTH bounds.
return queueLength()
