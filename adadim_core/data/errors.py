"""Errors of data sets."""


class DataError(ValueError):
    """A data set cannot be read. The message says what is missing or wrong, where, and where its files come from."""


class BadFileError(DataError):
    """One file among many cannot be read: `data.bad_files: skip` goes on without it."""
