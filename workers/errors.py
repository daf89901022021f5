"""The errors a user can mend."""


class RunError(Exception):
    """The run cannot begin or go on. The message says what happened, where, and what to do."""
