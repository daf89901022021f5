"""Attempts whose job is over without a word of its worker: what the exit code and the storage say about the reason.

Owns how nodes that cannot run workers, and workers that cannot reach the service, are told apart from lost ones: what
no other attempt would change is not tried again.
"""

import asyncio
import json
import logging

from pydantic import ValidationError

from adadim_core.spec.undelivered import MAX_BYTES, Undelivered
from adadim_core.storage import layout
from adadim_core.storage.reading import read_whole
from adadim_core.version import VERSION
from service.cluster.jobs import Job
from service.context import Context
from service.database.tables import Attempt
from service.experiments import artefacts

logger = logging.getLogger(__name__)

_CANNOT_RUN = 78
"""EX_CONFIG of sysexits.h. No run ends with it."""
_MAY_NOT_REPORT = 77
"""EX_NOPERM: what `python -m workers` ends with where the service does not take it for the attempt's job."""
ENTRYPOINT = f"python -c 'import workers' || exit {_CANNOT_RUN}; exec python -m workers env:ADADIM_SPEC"
"""What Ray runs on a node, in a shell. That the workers are missing there is said by the exit code, before they run."""


def cannot_run(job: Job | None) -> str | None:
    """Why a job's node cannot run workers, for people; None if it could."""
    if job is None or job.exit_code not in (_CANNOT_RUN, _MAY_NOT_REPORT):
        return None
    said = next((line.strip() for line in reversed(job.message.splitlines()) if line.strip()), "")
    if job.exit_code == _MAY_NOT_REPORT:
        return f"the service did not take the job for this attempt's: {said[:1000]}"
    return (
        f"the cluster's nodes cannot run workers ({said[:300]}): "
        f"install adadim[workers]=={VERSION} into the Python of every node, the head's too"
    )


async def read_undelivered(context: Context, attempt: Attempt) -> Undelivered | None:
    """The outcome that an attempt's driver could not deliver and left in the storage; None if there is none to see."""
    location = artefacts.folder(context.settings, attempt.submission_id)
    try:
        found = await asyncio.to_thread(read_whole, location, layout.undelivered(attempt.id), MAX_BYTES)
        return None if found is None else Undelivered.model_validate(json.loads(found))
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        logger.warning("the outcome of %s cannot be taken from the storage: %s", attempt.submission_id, error)
        return None


def unreachable(found: Undelivered, experiment_id: int) -> str:
    """That an attempt never reached the service, for people."""
    said = f"the workers could not reach this service at {found.service}: {found.why}. "
    if found.outcome.state == "failed":
        return f"{said}The run itself failed: {found.outcome.error}"
    said += "Set ADADIM_PUBLIC_URL to an address that the cluster's nodes reach, and NO_PROXY there against proxies"
    if found.outcome.state == "succeeded":
        said += (
            ". The training has succeeded all the same: once that is mended, "
            f"`adadim retry {experiment_id}` brings its results from the storage, and nothing is trained again"
        )
    return said
