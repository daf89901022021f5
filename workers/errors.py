"""The errors a user can mend."""


class RunError(Exception):
    """The run cannot begin or go on. The message says what happened, where, and what to do."""


def os_error(error: OSError) -> str:
    """What the system refused, in one line: which file, and why."""
    if error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
