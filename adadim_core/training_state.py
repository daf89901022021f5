"""The state of a training run: what a checkpoint holds, and how a run continues from one.

Owns the content of a state and the check that it fits. Does not own the file (checkpoint).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adadim_core import distributed
from adadim_core.balancing import LossBalance
from adadim_core.checkpoint import CheckpointError, DataChangedError, read_latest_checkpoint
from adadim_core.collapse import CollapseWatch
from adadim_core.optimizers import load_optimizer_state
from adadim_core.probe import OnlineProbe
from adadim_core.weighting import AlphaPolicy

_VERSION = 3


@dataclass(frozen=True)
class Parts:
    """The parts of a trainer that have state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    alpha_policy: AlphaPolicy
    balance: LossBalance
    collapse: CollapseWatch
    probe: OnlineProbe | None
    data: Mapping[str, int | str]
    """Number and fingerprint of the images, and the batch size: what the batches follow from, beside the seed."""


@dataclass(frozen=True)
class Position:
    """The position in training."""

    step: int
    last: dict[str, float]
    """The last value of every metric."""


def state_of(parts: Parts, position: Position) -> dict[str, Any]:
    """Everything needed to continue exactly. The tensors are the live ones."""
    return {
        "version": _VERSION,
        "step": position.step,
        "data": dict(parts.data),
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "alpha_policy": parts.alpha_policy.state_dict(),
        "balance": parts.balance.state_dict(),
        "collapse": parts.collapse.state_dict(),
        "probe": None if parts.probe is None else parts.probe.training_state(),
        "last": dict(position.last),
    }


def restore(parts: Parts, state: Mapping[str, Any]) -> Position:
    """Bring the parts to a state. Settings stay those the parts were built with.

    Raises:
        CheckpointError: the state is of another version or does not fit; the networks stay as they were.
        DataChangedError: the state was trained on other images.
    """
    if state.get("version") != _VERSION:
        raise CheckpointError(f"the state has version {state.get('version')!r}, not {_VERSION}")
    try:
        _require_same_data(parts.data, state["data"])
        _require_same_tensors(parts.model.state_dict(), state["model"])
        load_optimizer_state(parts.optimizer, state["optimizer"])
        parts.model.load_state_dict(state["model"])
        parts.alpha_policy.load_state_dict(state["alpha_policy"])
        if "balance" in state:  # states of earlier versions have none, and nothing to balance
            parts.balance.load_state_dict(state["balance"])
        parts.collapse.load_state_dict(state["collapse"])
        if parts.probe is not None and state["probe"] is not None:
            parts.probe.load_training_state(state["probe"])
        return Position(int(state["step"]), dict(state["last"]))
    except CheckpointError:
        raise
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"the state does not fit this spec: {error}") from error


def restore_from_file(parts: Parts, path: Path, device: torch.device) -> Position:
    """Bring the parts to the state of a checkpoint file or, where that is damaged, of the one before it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the files are truncated or damaged, or the state does not fit.
        OSError, RuntimeError: a file could not be read, or its tensors not be held; the file may be fine. Or not all
            processes found the same step.
    """
    failure: Exception | None = None
    position = Position(-1, {})
    try:
        position = restore(parts, read_latest_checkpoint(path, device))
    except Exception as error:  # noqa: BLE001 - the other processes wait to hear of it; raised again below
        failure = error
    steps = distributed.all_ints(position.step, device)
    if min(steps) != max(steps):
        found = ", ".join("none" if step < 0 else str(step) for step in steps)
        raise RuntimeError(f"the processes do not go on from one step: from {path} they read {found}") from failure
    if failure is not None:
        raise failure
    return position


def _require_same_data(own: Mapping[str, int | str], given: Mapping[str, int | str]) -> None:
    """Raise DataChangedError where a state was trained on other images, CheckpointError where in other batches."""
    if own["batch_size"] != given["batch_size"]:
        raise CheckpointError(f"the state was trained in batches of {given['batch_size']}, not of {own['batch_size']}")
    # States of earlier versions have no fingerprint.
    if own["images"] != given["images"] or own["fingerprint"] != given.get("fingerprint", own["fingerprint"]):
        before, now = (
            f"{data['images']} images (fingerprint {data.get('fingerprint', 'unknown')})" for data in (given, own)
        )
        raise DataChangedError(f"the data changed since this training began: then {before}, now {now}")


def _require_same_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a state is of other networks, before any of it is taken over."""
    if own.keys() != given.keys():
        raise ValueError(f"the networks differ in {', '.join(sorted(own.keys() ^ given.keys())[:3])}")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise ValueError(f"{name} has the shape {(*given[name].shape,)}, not {(*tensor.shape,)}")
