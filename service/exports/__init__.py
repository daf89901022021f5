"""Exports: every point of an experiment as a file, streamed."""
