"""What an experiment is called on the cluster, and where its folder is. What lies in it is adadim_core.storage's."""

from adadim_core.storage import address
from service.errors import UnavailableError
from service.settings import Settings


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
    return address.join(settings.storage_root, "-".join(job.split("-")[:3]))


def away(error: OSError) -> UnavailableError:
    """The answer while a storage cannot be asked."""
    detail = f"The storage does not answer: {error}"
    return UnavailableError(detail, retry_after_s=10)
