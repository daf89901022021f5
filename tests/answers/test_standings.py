"""Who leads and who stands where if seeds are missing: the words claim no more than a test of the pair showed."""

import pytest
from sweep_rows import question, row, rows

from adadim_core.answers.answer import answer
from adadim_core.answers.document import Answer

FIRST, SECOND, THIRD = range(5), range(5, 10), range(10, 15)


def sweep(values: dict[int, dict[int, float]]) -> Answer:
    """A finished sweep: values[configuration][seed]."""
    found = [(k, seed, value) for k, of_one in values.items() for seed, value in of_one.items()]
    return answer(question(), [row(number, *one) for number, one in enumerate(found)])


def around(mean: float, seeds: range) -> dict[int, float]:
    return {seed: mean + 0.001 * (seed % 3) for seed in seeds}


def standings(found: Answer) -> dict[str, str]:
    return {c.label: c.standing for c in found.configurations}


def test_what_another_beats_does_not_lead() -> None:
    """fixed 0 has the best adjusted mean, thanks to the noisy pair of the others, but fixed 0.1 beats it directly."""
    alone = dict(zip(THIRD, (0.1, 0.9, 0.2, 0.8, 0.5), strict=True))
    against = dict(zip(THIRD, (0.9, 0.4, 0.8, 0.6, 0.8), strict=True))
    found = sweep(
        {
            0: around(0.80, FIRST) | around(0.80, SECOND),
            1: {seed: 0.83 - 0.0005 * seed for seed in FIRST} | alone,
            2: {seed: 0.60 + 0.0005 * seed for seed in SECOND} | against,
        }
    )
    assert standings(found) == {"fixed 0.1": "leads", "fixed 0": "worse", "fixed 0.2": "not distinguishable"}
    assert found.configurations[0].label == "fixed 0.1"
    assert {c.label: c.rank for c in found.configurations}["fixed 0"] == 1
    assert found.sentence.startswith("fixed 0.1 leads")


def test_where_each_is_worse_than_another_none_leads() -> None:
    found = sweep(
        {
            0: around(0.80, FIRST) | around(0.80, SECOND),
            1: {seed: 0.83 - 0.0005 * seed for seed in FIRST} | around(0.50, THIRD),
            2: {seed: 0.60 + 0.0005 * seed for seed in SECOND} | {seed: 0.70 + 0.0005 * seed for seed in THIRD},
        }
    )
    assert (found.verdict, found.leader) == ("no statement", None)
    assert "each configuration is worse than another over the seeds that both have" in found.sentence


def test_what_shares_no_two_seeds_with_the_leader_is_not_compared() -> None:
    found = sweep({0: {0: 0.90, 1: 0.91, 2: 0.92}, 1: {0: 0.70, 1: 0.72, 2: 0.71}, 2: {2: 0.5, 7: 0.5, 8: 0.51}})
    assert standings(found) == {"fixed 0": "leads", "fixed 0.1": "worse", "fixed 0.2": "not compared"}
    assert "fixed 0.2 is not compared with fixed 0 (no two common seeds)" in found.sentence
    alone = next(c for c in found.configurations if c.label == "fixed 0.2")
    assert alone.untested == "no two common seeds"
    assert "not compared (no two common seeds)" in alone.cells
    assert alone.more_seeds is None


def test_within_noise_are_those_that_were_tested() -> None:
    found = sweep({0: {0: 0.90, 1: 0.91, 2: 0.92}, 1: {0: 0.91, 1: 0.90, 2: 0.91}, 2: {7: 0.5, 8: 0.51}})
    assert found.verdict == "none"
    assert found.sentence.startswith(
        "No winner: fixed 0 and fixed 0.1 are within noise; fixed 0.2 is not compared with "
    )


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [
        (((0, 1), (2, 3)), "no two configurations have two common seeds"),
        (((0, 1), (0, 1)), "differences of configurations with two common seeds are the same for every seed"),
    ],
)
def test_without_any_test_there_is_no_statement(seeds: tuple[tuple[int, int], ...], reason: str) -> None:
    values = ((1.0, 1.25), (2.0, 2.25))
    trials = [
        row(2 * k + j, k, seeds[k][j], None, metrics={"h_r": values[k][j], "knn_top1": 0.5})
        for k in (0, 1)
        for j in (0, 1)
    ]
    found = answer(question(metric="h_r"), trials)
    assert (found.verdict, found.leader) == ("no statement", None)
    assert found.sentence.startswith(f"No statement: {reason}")
    assert {c.standing for c in found.configurations} == {"not ranked"}


def test_a_missing_seed_is_allowed_for_in_every_number_and_said() -> None:
    """Seed 2 is a hard one, and the worse configuration has not had it: by plain means it would be ahead by 0.115."""
    entropy = [[2.0, 2.1, 2.05], [1.0, 1.1, 1.05]]
    trials = rows([[0.90, 0.91, 0.50], [0.88, 0.92, 0.48]], {"h_r": entropy})[:5]
    found = answer(question(), trials)
    assert found.leader == 0
    assert found.resolution is not None
    assert found.resolution.spread == pytest.approx(0.005)
    (entropies,) = (a for a in found.without_labels if a.measure == "h_r")
    assert (entropies.picks, entropies.costs, entropies.tau) == (0, 0.0, 1.0)
    assert "fixed 0 has the highest mean adjusted for missing seeds, its own 0.770" in found.sentence
    assert any(note.startswith("Not all have the same seeds") for note in found.notes)
    assert not any(note.startswith("Not all") for note in answer(question(), rows([[0.9, 0.8], [0.8, 0.9]])).notes)
