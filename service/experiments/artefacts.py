"""What an experiment is called on the cluster, and the end of its folder. What lies in it is the workers' business."""

import logging
import shutil
from pathlib import Path

from service.settings import Settings

logger = logging.getLogger(__name__)


def prefix(installation_key: str) -> str:
    """How the names of all jobs and folders of this installation begin."""
    return f"adadim-{installation_key}-"


def name(installation_key: str, experiment_id: int) -> str:
    """An experiment's name on the cluster: that of its folder; its jobs have the attempt's number behind it."""
    return f"{prefix(installation_key)}{experiment_id}"


def folder(settings: Settings, job: str) -> str:
    """The storage folder of an experiment.

    Args:
        job: the name of the experiment, or of any of its Ray jobs.
    """
    return f"{settings.storage_root.rstrip('/')}/{'-'.join(job.split('-')[:3])}"


def remove(location: str) -> None:
    """Remove a folder with all that is in it; one that is gone or half gone is as good. Raises OSError.

    An object store is not within the service's reach: what lies there is left, and the log says so.
    """
    if "://" in location:
        logger.warning("%s is left to you: the service removes folders only", location)
        return
    try:
        shutil.rmtree(Path(location))
    except FileNotFoundError:
        if Path(location).exists():  # something in it went away while it was removed: once more
            remove(location)
