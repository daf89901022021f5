"""What the API says of waiting."""

from pydantic import BaseModel


class WaitingRead(BaseModel):
    """Where a queued experiment stands, and what it waits for."""

    position: int
    """Place in the queue, from 1."""
    reason: str
    """For people, as "2 of 2 slots in use"."""
