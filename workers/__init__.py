"""Turns an experiment spec into a Ray Tune sweep and reports its metrics. `python -m workers SPEC` is the entry.

Knows Ray and adadim_core; knows nothing of the service's code or database. The service is one HTTP address
a run may report to, and every run works without it.
"""
