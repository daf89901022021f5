"""Live streams: an experiment's events and points as they happen, over server-sent events."""
