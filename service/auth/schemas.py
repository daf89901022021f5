"""What the API says of tokens."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from service.auth.service import Role
from service.schema import Schema

MAX_DAYS = 3650


class TokenCreate(Schema):
    """A token to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$",
            description="Whose token it is: the owner of what is submitted with it. A person may hold several.",
        ),
    ]
    role: Role
    expires_in_days: Annotated[int | None, Field(ge=1, le=MAX_DAYS, description="null: valid until it is revoked.")] = (
        90
    )


class TokenRead(Schema):
    """A token without its value, which nobody can read again."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    """Whose token it is."""
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To within ten minutes."""


class TokenCreated(TokenRead):
    """A new token with its value, this once."""

    token: str


class TokenPage(Schema):
    """A page of tokens, newest first."""

    items: list[TokenRead]
    next_cursor: str | None
    """Send it as `cursor` for the next page; null on the last."""
