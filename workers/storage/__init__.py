"""A run's files, in a folder or an object store."""
