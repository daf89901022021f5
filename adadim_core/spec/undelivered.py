"""What a driver leaves in the storage if its outcome did not reach the service: the outcome and the address it tried.

The contract between workers, who write it under `layout.undelivered`, and the service, which takes the outcome from
there. Anyone who can write to the storage can write the file, so it is read as strictly as a report.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adadim_core.spec.report import Outcome, ReasonText


def _cut(value: object) -> object:
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else value


_MOST_CHARACTERS = 1_000
_Text = Annotated[ReasonText, BeforeValidator(_cut), Field(min_length=1)]

MAX_BYTES = 256 * 1024
"""Of such a file; an outcome's error is the longest part of it."""


class Undelivered(BaseModel):
    """An outcome the service does not have."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    outcome: Outcome
    service: _Text
    """The address that was tried, with the proxy on the way to it."""
    why: _Text
    """What the last try met."""
