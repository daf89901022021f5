"""The queue: which experiment starts next, and what the others wait for."""
