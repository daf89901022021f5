"""Experiments: submission, reading, cancelling."""
