"""What the API says of waiting."""

from service.schema import Schema


class WaitingRead(Schema):
    """What an experiment waits for: one in the queue, or one whose trials have no room on the cluster."""

    position: int | None
    """Place in the queue, from 1; null if it is no longer in it."""
    reason: str
    """For people, as "2 of 2 slots in use", or "waits for 2 CPUs, held by #10"."""
