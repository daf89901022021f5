"""Where the files of one experiment lie: names below its folder, with / between their parts. Touches no file.

spec.json                     the experiment; a folder holds one
points/NNNN-RUN.jsonl (.ack)  metric points of a trial, as one run measured them
trials/NNNN/checkpoint.pt     where the trial goes on after an interruption; of finished trials the best one's stays
trials/NNNN/encoder.safetensors  the exported encoder of a finished trial
trials/NNNN/result.json       written last: a trial that has it is finished and never runs again
trials/NNNN/log.txt (.1)      what the trial printed
logs/attempt-N.log (.1)       what the driver printed, in attempt N (`local` without the service)
logs/attempt-N.json           how attempt N ended and whom it could not tell: an outcome the service does not have
trials/NNNN/params.json       values chosen or changed while the experiment ran: TPE and PBT
trials/NNNN/failures.json     how often it raised, and what at last
data/KEY.json                 what was read of a data set, by the first trial that trained on it
results.json                  the whole table
points.parquet                every metric point once, written when a run ends
id                            tells this experiment from others with the same spec
elapsed.json                  time spent so far, of a budget
earlier-N/                    what runs before a `--restart` left: the same files
tune/                         Ray Tune's scratch space
"""

from pathlib import PurePosixPath

SPEC = "spec.json"
RESULTS = "results.json"
PARQUET = "points.parquet"
POINTS = "points"
ID = "id"
DATA = "data"
"""The folder of the records of data sets."""
ELAPSED = "elapsed.json"
TUNE = "tune"
CHECKPOINT = "checkpoint.pt"
"""In a trial's folder: where the trial goes on."""
PREVIOUS_CHECKPOINT = "checkpoint.previous.pt"
CHECKPOINTS = "checkpoint*.pt"
"""Pattern of both, and of one that was set aside."""


def trial(number: int) -> str:
    """The folder of a trial."""
    return f"trials/{number:04d}"


def checkpoint(number: int) -> str:
    """Where a trial goes on."""
    return f"{trial(number)}/{CHECKPOINT}"


def encoder(number: int) -> str:
    """The encoder of a finished trial."""
    return f"{trial(number)}/encoder.safetensors"


def result(number: int) -> str:
    """How a trial ended."""
    return f"{trial(number)}/result.json"


def params(number: int) -> str:
    """The values of a trial, where they are not the planned ones."""
    return f"{trial(number)}/params.json"


def failures(number: int) -> str:
    """What a trial raised."""
    return f"{trial(number)}/failures.json"


def trial_log(number: int) -> str:
    """What a trial printed last; what came before is `earlier_log` of it."""
    return f"{trial(number)}/log.txt"


def driver_log(attempt: str | int) -> str:
    """What the driver of an attempt printed last; what came before is `earlier_log` of it."""
    return f"logs/attempt-{attempt}.log"


def undelivered(attempt: str | int) -> str:
    """The outcome of an attempt that could not be told to the service."""
    return f"logs/attempt-{attempt}.json"


def earlier_log(log: str) -> str:
    """The log that was full, before the one that is written now."""
    path = PurePosixPath(log)
    return str(path.with_suffix(f".1{path.suffix}"))


def spool(number: int, run: str, process: str) -> str:
    """The metric points of a trial, as one process of one run measured them."""
    return f"{POINTS}/{number:04d}-{run}-{process}.jsonl"
