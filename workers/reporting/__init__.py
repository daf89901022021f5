"""From spool to service: points, trial states, heartbeat, outcome."""
