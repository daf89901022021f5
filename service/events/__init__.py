"""The ordered stream of what happens to an experiment."""
