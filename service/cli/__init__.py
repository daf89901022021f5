"""The `adadim` command."""
