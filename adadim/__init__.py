"""The Python client of the service: submit specs, follow them, read what came out.

Owns how a service is found and spoken to; the `adadim` command is written over it. Imports neither torch nor anything
of the service.
"""

from adadim.client import Client, ClientError, Event
from adadim_core.version import VERSION

__all__ = ["Client", "ClientError", "Event", "__version__"]

__version__ = VERSION
