"""What room a cluster has for trials. Nodes as Ray tells of them, without a cluster."""

from typing import Any

import pytest

from adadim_core.spec.sections import ResourcesSpec
from workers.errors import RunError
from workers.sweep.cluster import RoomWatch, room_for

Nodes = list[dict[str, Any]]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The cluster's nodes; a test changes them."""
    nodes: Nodes = []
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("workers.sweep.cluster._scales_itself", lambda: False)
    monkeypatch.setattr("workers.sweep.cluster._LOOK_SECONDS", 0.0)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    return nodes


def node(*, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        ({"gpus_per_worker": 0}, 8 + 3),
        ({"gpus_per_worker": 0, "cpus_per_worker": 2}, 4 + 1),
        ({"gpus_per_worker": 0, "cpus_per_worker": 2, "workers": 2}, 2),
        ({"gpus_per_worker": 1}, 2),
        ({}, 2),
        ({"gpus_per_worker": 0.5}, 4),
        ({"gpus_per_worker": 0.4}, 4),  # a fifth is left of each: no trial computes on two GPUs
        ({"gpus_per_worker": 0.1}, 8),  # there are no more CPUs
        ({"gpus_per_worker": 2}, 1),
        ({"gpus_per_worker": 4}, 0),
        ({"cpus_per_worker": 9}, 0),
        ({"workers": 3}, 0),
    ],
)
def test_room(nodes: Nodes, resources: dict[str, Any], slots: int) -> None:
    nodes += [node(CPU=8, GPU=2), node(CPU=3), node(alive=False, CPU=64, GPU=8)]
    room = room_for(ResourcesSpec(**resources))
    assert room.slots == slots
    assert bool(room.shortage) == (slots == 0)


def test_gpus_are_those_the_run_began_with(nodes: Nodes) -> None:
    """Its trials ask for what was there then: a GPU that joins is no limit to trials without, and the other way."""
    nodes += [node(CPU=2)]
    watch = RoomWatch(ResourcesSpec(), print)
    nodes += [node(CPU=2, GPU=1)]
    watch.slots()
    assert (watch.room.slots, watch.room.gpus) == (4, 0.0)

    watch = RoomWatch(ResourcesSpec(), print)
    nodes[1:] = []
    watch.slots()
    assert (watch.room.slots, watch.room.gpus) == (0, 1.0)


def test_one_trial_waits_where_a_cluster_may_grow(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes += [node(CPU=2)]
    assert RoomWatch(ResourcesSpec(), print).slots() == 2
    monkeypatch.setattr("workers.sweep.cluster._scales_itself", lambda: True)
    assert RoomWatch(ResourcesSpec(), print).slots() == 3
    assert RoomWatch(ResourcesSpec(max_concurrent_trials=2), print).slots() == 2
    assert RoomWatch(ResourcesSpec(workers=2), print).slots() == 1
    nodes.clear()
    said: list[str] = []
    assert RoomWatch(ResourcesSpec(), said.append).slots() == 1
    assert said[0].startswith("waiting for nodes: one trial takes 1 x (1 CPUs, 0 GPUs)")
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(RunError, match="set RAY_ADDRESS to a larger cluster"):
        RoomWatch(ResourcesSpec(), print)
