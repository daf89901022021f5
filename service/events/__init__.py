"""The ordered stream of what happens to an experiment, and its live delivery."""
