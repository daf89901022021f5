"""A sweep's trials on Ray Tune: which run, when, for how long."""
