"""The driver's signal to all processes of a run that it is ending: save, and train no further.

Owns how it travels: a key in the cluster's own store, which every trial process looks at twice a second. An actor
within an epoch takes no calls, and a folder may not be shared. Ray's functions for that store have private names; an
actor that holds the signal, which is the public way, would cost one more process in every run.
tests/workers/test_early_ends.py and test_runs.py interrupt real runs, whose trials must see it.
"""

import functools
import logging
import threading

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.4


def give_stop_signal(run: str) -> None:
    """Set the signal for every process of the run."""
    _internal_kv_put(_key(run), b"stop", overwrite=True)


def forget_stop_signal(run: str) -> None:
    """Remove it from the cluster's store, which keeps it for ever otherwise. Processes that saw it remember it."""
    _internal_kv_del(_key(run))


@functools.cache
def stop_signal(run: str) -> threading.Event:
    """An event that is set once the driver gave the signal. One thread a process looks for it."""
    given = threading.Event()
    threading.Thread(target=_watch, args=(run, given), name="stop-signal", daemon=True).start()
    return given


def _watch(run: str, given: threading.Event) -> None:
    failed = False
    while not given.wait(_LOOK_SECONDS):
        try:
            if _internal_kv_get(_key(run)) is not None:
                given.set()
        except Exception as error:  # noqa: BLE001 - a cluster that is going away says so in many ways
            if not failed:
                logger.warning("cannot look for the driver's stop signal: %s", error)
            failed = True


def _key(run: str) -> bytes:
    return f"adadim:stop:{run}".encode()
