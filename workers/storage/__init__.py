"""A run's folder on this node and its way to the object store: spools, points, results, records.

Owns when files are stored and fetched. What they are called and how an object store is asked is adadim_core.storage's.
"""
