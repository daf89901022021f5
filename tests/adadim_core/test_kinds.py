"""Closed sets: what the spec may name and what runs it are two tables that hold the same names."""

import optuna
import pytest

from adadim_core.data import dataset_names
from adadim_core.models import encoder
from adadim_core.spec.algorithms import ALGORITHMS
from adadim_core.spec.backbones import BACKBONES
from adadim_core.spec.datasets import DATASETS
from workers.sweep import tpe


def test_every_data_set_of_the_spec_can_be_read_and_no_other() -> None:
    assert set(dataset_names()) == set(DATASETS)


def test_every_backbone_of_the_spec_can_be_built_and_no_other() -> None:
    assert set(BACKBONES) == encoder.BUILT_IN


def test_every_algorithm_that_learns_has_a_sampler_and_no_other() -> None:
    assert set(tpe._SAMPLERS) == {name for name, algorithm in ALGORITHMS.items() if algorithm.learns}
    assert all(isinstance(make(0, 1), optuna.samplers.BaseSampler) for make in tpe._SAMPLERS.values())


@pytest.mark.parametrize("table", [DATASETS, BACKBONES, ALGORITHMS], ids=["data sets", "backbones", "algorithms"])
def test_entries_are_found_by_their_own_names_and_have_words_of_their_own(table) -> None:
    assert all(name == entry.name for name, entry in table.items())
    assert len({entry.title for entry in table.values()}) == len(table)
