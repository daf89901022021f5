"""The folder of an experiment in the storage: its name, and its end. What lies in it is the workers' business."""

import logging
import shutil
from pathlib import Path

from service.settings import Settings

logger = logging.getLogger(__name__)


def folder(settings: Settings, job: str) -> str:
    """The storage folder of an experiment.

    Args:
        job: the name of any of its Ray jobs, or of the experiment: that without the attempt's number.
    """
    name = "-".join(job.split("-")[:3])
    return f"{settings.storage_root.rstrip('/')}/{name}"


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
