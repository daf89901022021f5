"""Trials of an experiment: their parameters, states and last values."""
