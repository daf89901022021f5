"""What a decision answers when it turns a request down. Knows nothing of HTTP: problems.py gives each kind its status.

Each says what happened, where in the input, and what to do.
"""

from collections.abc import Sequence
from typing import ClassVar

from service.schema import Schema


class FieldError(Schema):
    """One field that is wrong."""

    pointer: str
    """JSON Pointer into the request's body, or the name of a parameter."""
    detail: str


class ServiceError(Exception):
    """A request that is turned down. Only its subclasses are raised."""

    title: ClassVar[str]
    """The kind in a word or two, for people."""
    retry_after_s: int | None = None
    """When the same request may succeed; None where waiting does not help."""

    def __init__(self, detail: str, *, title: str | None = None, errors: Sequence[FieldError] = ()) -> None:
        self.detail, self.shown_title, self.errors = detail, title or self.title, list(errors)
        super().__init__(f"{self.shown_title}: {detail}")


class NotAuthenticatedError(ServiceError):
    """It is not known who asks."""

    title = "Unauthorized"


class NotAllowedError(ServiceError):
    """It is known who asks, and they may not."""

    title = "Forbidden"


class NotFoundError(ServiceError):
    """A thing that is not there."""

    title = "Not found"

    @classmethod
    def of(cls, noun: str, identifier: object) -> "NotFoundError":
        return cls(f"There is no {noun} {identifier}.")


class ConflictError(ServiceError):
    """The request contradicts the present state."""

    title = "Conflict"


class InvalidError(ServiceError):
    """A field is wrong; `errors` says which."""

    title = "Invalid request"


class TooManyError(ServiceError):
    """More than the caller's share, or than the service can take now."""

    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_s: int, title: str | None = None) -> None:
        super().__init__(detail, title=title)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """Something this service depends on does not answer now."""

    title = "Unavailable"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
