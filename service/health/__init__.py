"""Probes and Prometheus metrics."""
