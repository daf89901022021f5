"""What the API says of the audit."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from service.schema import Schema


class AuditEntry(Schema):
    """One thing that was done."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    by: str
    """A user's name, or dispatcher, worker or service."""
    action: str
    """What was done, as experiment.submitted, experiment.cancelling, experiment.removed, token.created,
    session.opened."""
    experiment_id: int | None
    subject: str
    """The experiment's name, or whose token it is."""
    details: dict[str, Any]


class AuditPage(Schema):
    """A page of the audit, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None
    """Send it as `cursor` for the next page; null on the last."""
