"""`python -m workers SPEC`: run one experiment on the Ray cluster at hand, with or without the service.

Owns the command line, the environment variables and the exit code: 0 only if the experiment succeeded.
"""

import argparse
import logging
import os
import re
import socket
import sys
from contextlib import closing, nullcontext, suppress
from datetime import datetime
from pathlib import Path

from adadim_core import network
from adadim_core.spec import MAX_SPEC_BYTES, ExperimentSpec, SpecError, parse_spec, unintended
from adadim_core.spec.packing import unpacked
from adadim_core.spec.report import Outcome
from adadim_core.spec.undelivered import Undelivered
from adadim_core.terminal import safe_streams
from adadim_core.version import VERSION
from workers.errors import RunError, os_error
from workers.interruption import Interrupted, Interruption
from workers.log import OutputLog
from workers.reporting import importing
from workers.reporting.attempt import Attempt, shortened
from workers.reporting.connection import NotTaken, ServiceAddress, with_own_token
from workers.run import run_experiment
from workers.storage.claim import held, set_apart, usable
from workers.storage.folder import Storage, write_json
from workers.storage.opening import open_storage

MAY_NOT_REPORT = 77
"""EX_NOPERM of sysexits.h: the exit code where the service does not take this process for the attempt's job."""
_EXIT_CODES = {"succeeded": 0, "failed": 1, "interrupted": 143}

# Ray follows a job's SIGTERM with SIGKILL after 3 s (RAY_JOB_STOP_WAIT_TIME_S in the job's environment extends it).
_INTERRUPTED_SECONDS = 2.0
_OUTCOME_SECONDS = 60.0

_HELP = """\
SPEC is a file (YAML or JSON), - for standard input, or env:NAME for an environment variable.
RAY_ADDRESS names the Ray cluster; without it a local one is started for this run. Given the --storage of an
interrupted run, the run continues where it stopped.

`python -m workers import RESULTS --service URL` brings the results of a run into a service.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment, or import the results of one. Returns the exit code."""
    with safe_streams():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["import"]:
        return importing.main(arguments[1:])
    options = _parser().parse_args(arguments)
    _log_to_stderr()
    interruption = Interruption()
    interruption.install()  # it raises within `raising` only
    try:
        service = _service_address()
    except RunError as error:
        return _end(Outcome(state="failed", error=str(error)))
    except NotTaken as error:
        _end(Outcome(state="failed", error=str(error)))
        return MAY_NOT_REPORT
    attempt = Attempt(service, on_stop=interruption.request)
    storage: Storage | None = None
    log: Path | None = None
    try:
        with interruption.raising():
            attempt.start()
            _check_version()
            spec = _read_spec(options.spec)
            place = _place(options, spec)
            storage = open_storage(place, before_retry=interruption.check, on_away=interruption.request)
            log = storage.driver_log(service.attempt if service is not None else "local")
            with usable(storage):  # the first thing that is looked for in it
                storage.take_up_log(log)
            # The service has one attempt at a time, and the next one must not wait for the end of one that hangs.
            alone = held(storage) if service is None else nullcontext()
            with closing(OutputLog(log)), alone:
                _log_to_stderr()  # which is another stream within
                if options.restart:
                    set_apart(storage)
                outcome = run_experiment(spec, storage, service, attempt, interruption, _folders(options.spec))
    except (RunError, SpecError) as error:
        outcome = Outcome(state="failed", error=str(error))
    except (Interrupted, SystemExit):  # SystemExit: a signal while Ray's own handler was there, in ray.init
        outcome = Outcome(state="interrupted", error=interruption.reason or "received SIGTERM")
    except OSError as error:  # the storage: full, read-only, gone
        reason = interruption.reason  # an object store that is away ends the run so
        outcome = Outcome(state="interrupted" if reason else "failed", error=reason or os_error(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported to the service
        outcome = _broken_off(error, interruption)
    delivered = _deliver(outcome, attempt, storage.points if storage else None, interruption)
    if service is not None and storage is not None and not delivered and not attempt.superseded:
        _leave(outcome, attempt, service, storage)
    if storage is not None and log is not None:
        storage.push_log(log)
    return _end(outcome)


def _deliver(outcome: Outcome, attempt: Attempt, points: Path | None, interruption: Interruption) -> bool:
    """Report the outcome to the service. A signal meanwhile leaves little time for it. Returns whether it arrived."""
    interruption.install()  # Ray's own handler may be there, where ray.init failed
    if outcome.state != "interrupted":
        with suppress(Interrupted), interruption.raising():  # which leaves it one more try, below
            return attempt.finish(outcome, points, timeout=_OUTCOME_SECONDS)
    interruption.disarm()
    return attempt.finish(outcome, points, timeout=_INTERRUPTED_SECONDS, limit=_INTERRUPTED_SECONDS)


def _leave(outcome: Outcome, attempt: Attempt, service: ServiceAddress, storage: Storage) -> None:
    """Leave the outcome in the storage, where the service looks when an attempt has fallen silent."""
    left = Undelivered(
        outcome=Outcome(state=outcome.state, error=shortened(outcome.error)),
        service=network.route(service.url),
        why=attempt.unreachable or "points are left in their spools",
    )
    path = storage.undelivered(service.attempt)
    try:
        write_json(path, left.model_dump(mode="json"))
        storage.push(path, patience=0)
    except OSError as error:
        logging.getLogger(__name__).warning("the outcome cannot be left in the storage: %s", error)


def _log_to_stderr() -> None:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING, force=True)


def _broken_off(error: Exception, interruption: Interruption) -> Outcome:
    if interruption.reason:  # the storage is away, or Ray made another error of a signal within its native calls
        return Outcome(state="interrupted", error=interruption.reason)
    logging.getLogger(__name__).error("the run broke off", exc_info=error)
    return Outcome(state="failed", error=f"{type(error).__name__}: {error}")


def _end(outcome: Outcome) -> int:
    if outcome.error:
        print(f"{outcome.state}: {outcome.error}", file=sys.stderr, flush=True)
    return _EXIT_CODES[outcome.state]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Run an AdaDim experiment on Ray.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", metavar="SPEC", help="the experiment")
    parser.add_argument(
        "--storage",
        metavar="PLACE",
        help="this run's own place: a folder every node shares, s3:// or gs://; default: a new folder under "
        "ADADIM_STORAGE or ./results, in a Ray job ~/adadim-results",
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew in --storage, and set apart what earlier runs left there"
    )
    parser.add_argument("--name", help="name of the default results folder (default: the spec's name)")
    return parser


def _read_spec(source: str) -> ExperimentSpec:
    if source.startswith("env:"):
        name = source.removeprefix("env:")
        if name not in os.environ:
            raise RunError(f"environment variable {name} is not set; it should hold the spec")
        return parse_spec(unpacked(os.environ[name]))
    try:
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
            text = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise RunError(f"cannot read spec {source}: {error.strerror}") from error
    try:
        spec = parse_spec(text)
        if useless := unintended(spec):
            raise SpecError(useless)
    except SpecError as error:
        raise RunError(error.in_file(source)) from None
    return spec


def _folders(source: str) -> list[Path]:
    """Where relative paths of a spec may begin: beside it if it is a file, and where this was called."""
    return [Path.cwd()] if source == "-" or source.startswith("env:") else [Path(source).absolute().parent, Path.cwd()]


def _service_address() -> ServiceAddress | None:
    names = ("ADADIM_SERVICE_URL", "ADADIM_ATTEMPT_ID", "ADADIM_ATTEMPT_CODE")
    values = [os.environ.get(name) for name in names]
    if not any(values):
        return None
    missing = [name for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise RunError(f"{', '.join(missing)} not set: reporting to a service takes {', '.join(names)}")
    url, attempt, code = (value or "" for value in values)
    return with_own_token(url, attempt, code)


def _check_version() -> None:
    """Raise RunError if the service that started this has another version: it would speak another language."""
    wanted = os.environ.get("ADADIM_VERSION")
    if wanted and wanted != VERSION:
        raise RunError(
            f"{socket.gethostname()} has adadim {VERSION}, the service {wanted}; "
            f"install adadim[workers]=={wanted} on every node of the cluster"
        )


def _place(options: argparse.Namespace, spec: ExperimentSpec) -> str:
    """Where this run's results go.

    Raises:
        RunError: where a Ray job would lose them.
    """
    if options.storage == "":
        raise RunError("--storage is empty")
    in_ray_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    place: str | None = options.storage or os.environ.get("ADADIM_RUN_STORAGE")
    if not place:
        root = os.environ.get("ADADIM_STORAGE") or ("~/adadim-results" if in_ray_job else "results")
        address, mark, query = root.partition("?")
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", options.name or spec.name)
        now = datetime.now()  # noqa: DTZ005 - the user's own clock
        place = f"{address.rstrip('/')}/{name}-{now:%Y%m%d-%H%M%S}{mark}{query}"
    if in_ray_job and "://" not in place and not Path(place).expanduser().is_absolute():
        raise RunError(
            f"storage {place} is relative, and a Ray job runs in a copy of its working directory, which Ray deletes "
            "afterwards; give an absolute path"
        )
    return place


if __name__ == "__main__":
    sys.exit(main())
