"""What the service is told of a run: metric points, trial states, heartbeat, outcome; and finished runs brought to it.

Owns the connection and its retries. A run is the same without a service.
"""
