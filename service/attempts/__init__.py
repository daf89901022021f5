"""Attempts: executions of an experiment as Ray jobs, and what their workers report."""
