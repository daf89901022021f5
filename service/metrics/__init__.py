"""Metric points: writing them once, reading them downsampled."""
