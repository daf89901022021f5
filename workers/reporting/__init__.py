"""Reports to the service: metric points, trial states, heartbeat, outcome; and the import of finished runs.

Owns the connection and its retries. A run is the same without a service.
"""
