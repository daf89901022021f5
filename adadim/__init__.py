"""The Python client of the service: submit specs, follow them, read what came out.

    import adadim

    experiment = adadim.connect().submit("examples/digits-sweep.yaml").wait()
    print(experiment.answer())
    encoder = experiment.best().encoder()

Owns how a service is found and spoken to; the `adadim` command is written over it. Imports neither torch nor anything
of the service: pandas, pyarrow and torch are taken by the methods that need them.
"""

from adadim.answer import Answer
from adadim.client import Client, ClientError, Event
from adadim.experiments import Connection, Experiment, Experiments, connect
from adadim.trials import Metrics, Series, Trial, Trials
from adadim_core.version import VERSION

__all__ = [
    "Answer",
    "Client",
    "ClientError",
    "Connection",
    "Event",
    "Experiment",
    "Experiments",
    "Metrics",
    "Series",
    "Trial",
    "Trials",
    "__version__",
    "connect",
]

__version__ = VERSION
