"""Why the service does not start: the one place that knows what a start can raise, and says it in one line.

Owns the list and the words for what has none of its own. What a database or an address has to be is said where that is
known.
"""

import re
import socket
import ssl

from service.auth.admin_token import AdminTokenUnusable
from service.cluster.claim import DatabaseInUse
from service.cluster.jobs import ClusterUnavailable
from service.database.check import DatabaseUnusable
from service.database.connection import first_line
from service.database.engine import DATABASE_ERRORS
from service.database.programs import DatabaseNotStarted
from service.telemetry.tracing import TracingUnavailable


class ServeError(Exception):
    """The service cannot start here. The text says why and what to do."""


CANNOT_START = (
    *(
        ServeError,
        AdminTokenUnusable,
        DatabaseNotStarted,
        DatabaseUnusable,
        DatabaseInUse,
        ClusterUnavailable,
        TracingUnavailable,
    ),
    *DATABASE_ERRORS,  # among them OSError: folders, files, ports
)
"""What the environment can do to a start. Anything else is a mistake of ours, and keeps its trace."""
_OF_CONNECTIONS = (ConnectionError, TimeoutError, ssl.SSLError, socket.gaierror)
"""What of OSError is a database's, and not a folder's."""


def why_not(error: BaseException) -> str:
    """One of CANNOT_START, in one line."""
    if isinstance(error, DatabaseInUse):
        return f"{error}; set it, or give this service a DATABASE_URL of its own"
    if isinstance(error, OSError) and not isinstance(error, _OF_CONNECTIONS):
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else first_line(error)
        return (
            f"{what}; the service writes below ADADIM_STATE_DIR and ADADIM_STORAGE: set them to folders that it may "
            "write and that have room"
        )
    if isinstance(error, DATABASE_ERRORS):
        words = re.sub(r"^(\(.*?\) )?<class '[\w.]+'>: ", "", first_line(error))
        return f"the database refuses what the start does there ({words}); `adadim doctor` says more"
    return str(error)
