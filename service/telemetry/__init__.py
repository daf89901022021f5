"""What operators see of the service at work: log records, request ids, traces, counters of the dispatcher."""
