"""The end of a run that is asked for: the trials hear of it, save, and nothing of it stays in the cluster's store."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from workers.interruption import Interrupted, Interruption
from workers.sweep.ending import Ending
from workers.trial import stop_signal


def test_the_signal_is_gone_once_everybody_has_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[bytes, bytes] = {}
    monkeypatch.setattr(stop_signal, "_internal_kv_put", lambda key, value, overwrite: store.update({key: value}))
    monkeypatch.setattr(stop_signal, "_internal_kv_del", store.pop, raising=False)
    interruption = Interruption()
    ending = Ending("run-1", interruption)
    trials: list[Any] = [SimpleNamespace(status=Trial.RUNNING, last_result={"epoch": 1}) for _ in range(2)]
    ending.check(trials)
    assert not store
    interruption.reason = "received SIGTERM"
    ending.check(trials)
    trials[0].last_result = {"interrupted": True}
    ending.check(trials)
    assert list(store) == [b"adadim:stop:run-1"]
    trials[1].last_result = {"interrupted": True}
    with pytest.raises(Interrupted):
        ending.check(trials)
    assert not store
