"""Curves: the course of metrics over training by configuration, mean and band over its trials."""
