"""The answer of an experiment: which configuration is best, by how much, and what is not known."""
