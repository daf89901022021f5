"""The one exception of this package."""


class DataError(ValueError):
    """A data set cannot be read. The message says what is missing or wrong, where, and where its files come from."""
