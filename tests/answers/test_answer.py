"""The answer as a whole: right verdicts on made-up sweeps, laws it keeps, and what is not ranked and why."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_rows import answer_to, question, row, rows, shares, weighting

from adadim_core.answers.answer import Question, answer
from adadim_core.answers.configurations import TrialRow
from adadim_core.answers.document import Answer
from adadim_core.spec import validate_spec

BEST = [[0.80, 0.82, 0.81, 0.83, 0.80], [0.86, 0.88, 0.87, 0.90, 0.86], [0.70, 0.73, 0.71, 0.72, 0.69]]


def standings(found: Answer) -> dict[str, str]:
    return {c.label: c.standing for c in found.configurations}


def test_a_known_best_is_found() -> None:
    found = answer_to(BEST)
    assert found.verdict == "best"
    assert standings(found) == {"fixed 0.1": "best", "fixed 0": "worse", "fixed 0.2": "worse"}
    assert [c.rank for c in found.configurations] == [1, 2, 3]
    assert found.sentence == (
        "fixed 0.1 is best: 0.874 ± 0.021 (5 seeds). fixed 0 (−0.062, −0.068 to −0.056) and "
        "fixed 0.2 (−0.164, −0.178 to −0.150) are worse."
    )


def test_where_there_is_none_none_is_named() -> None:
    """Four equal weightings, ten thousand images: over 400 sweeps a winner among them is rare."""
    rng = np.random.default_rng(3)
    verdicts = [answer_to(rng.normal(0.8, 0.01, size=(4, 5))).verdict for _ in range(400)]
    assert verdicts.count("none") / len(verdicts) >= 0.92


def test_a_best_with_an_equal_leads() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal([[0.9], [0.9], [0.7]], 0.002, size=(3, 6))
    found = answer_to(values)
    assert found.verdict == "leads"
    assert sorted(standings(found).values()) == ["leads", "not distinguishable", "worse"]
    (close,) = (c for c in found.configurations if c.standing == "not distinguishable")
    assert close.more_seeds is not None
    assert "is not distinguishable (" in found.sentence


def test_no_winner_names_the_pair_that_seeds_would_settle_first() -> None:
    found = answer_to([[0.80, 0.82, 0.81], [0.81, 0.80, 0.83], [0.78, 0.81, 0.79]])
    assert found.verdict == "none"
    fewest = min((c.more_seeds, c.label) for c in found.configurations if c.more_seeds is not None)
    assert found.sentence.startswith("No winner: 3 weightings are within noise. fixed 0.1 has the highest mean, 0.813")
    assert f"about {fewest[0]} more seeds would settle {fewest[1]} against fixed 0.1." in found.sentence


def test_the_why_tells_balance_from_accuracy() -> None:
    accuracy = shares([[0.98, 0.99, 0.985, 0.98, 0.99], [0.985, 0.98, 0.99, 0.985, 0.98]])
    entropy = [[2.0, 2.01, 2.02, 1.99, 2.0], [2.5, 2.52, 2.53, 2.5, 2.49]]
    shared = [[1.0, 1.1, 1.05, 1.0, 1.02], [1.02, 1.05, 1.1, 1.0, 1.01]]
    found = answer_to(accuracy, {"h_r": entropy, "i_rz": shared})
    assert found.why == (
        "The balance moves, the k-NN accuracy does not: H(R) tells 1 of 1 pair apart; "
        "I(R;Z) and the k-NN accuracy none."
    )
    assert found.resolution is not None
    assert (found.resolution.images, found.resolution.saturated) == (359, True)
    assert any("saturated" in note for note in found.notes)
    assert found.columns[-3:] == ["standing", "H(R)", "I(R;Z)"]
    assert all(c.cells[5].startswith(c.standing) for c in found.configurations)
    apart = [[0.95, 0.70, 0.95, 0.72, 0.93], [0.84, 0.85, 0.83, 0.84, 0.85], [0.80, 0.81, 0.79, 0.80, 0.81]]
    noisy = [[2.0, 3.0, 2.0, 3.0, 2.0], [3.0, 2.0, 3.0, 2.0, 2.5], [2.0, 2.5, 3.0, 2.0, 3.0]]
    ours = "the k-NN accuracy tells 1 of 3 pairs apart, none of them from the leader."
    still = answer_to(apart, {"h_r": noisy})
    assert still.verdict == "none"
    assert still.why == f"The balance does not move: H(R) tells no pair apart; {ours}"
    clear = [noisy[0], [2.0, 2.1, 2.05, 2.2, 2.0], [2.5, 2.61, 2.55, 2.69, 2.5]]
    both = answer_to(apart, {"h_r": clear, "i_rz": noisy})
    assert both.why == f"The balance moves: H(R) tells 1 of 3 pairs apart, I(R;Z) none; {ours}"
    better = answer_to(BEST, {"h_r": [[2.0, 2.1, 2.05, 2.2, 2.0], [2.5, 2.61, 2.55, 2.69, 2.5], [1.0, 1, 1.1, 1, 1]]})
    assert better.why is not None
    assert better.why.startswith("Against fixed 0.1, fixed 0 has lower H(R) (−0.500")


@given(st.permutations(range(15)), st.integers(0, 2**32 - 1))
def test_the_order_of_trials_does_not_matter(order: list[int], source: int) -> None:
    values = np.random.default_rng(source).normal(0.8, 0.02, size=(3, 5))
    trials = rows(values, {"h_r": values * 2})
    assert answer(question(), [trials[k] for k in order]) == answer(question(), trials)


@given(st.integers(0, 14), st.floats(0, 1))
def test_the_same_training_twice_is_one_replicate(copied: int, value: float) -> None:
    trials = rows(BEST)
    again = row(99, copied // 5, copied % 5, value)
    once, twice = (answer(question(), t) for t in (trials, [*trials, again, again]))
    assert once.sentence == twice.sentence
    for one, two in zip(once.configurations, twice.configurations, strict=True):
        assert (one.statistics, one.differences, one.seeds) == (two.statistics, two.differences, two.seeds)


@given(st.integers(0, 14), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_no_number_is_flagged_and_never_in_the_document(position: int, value: float) -> None:
    values = [list(of_one) for of_one in BEST]
    values[position // 5][position % 5] = value
    found = answer_to(values, {"h_r": values})
    json.loads(found.model_dump_json())
    assert "NaN" not in found.model_dump_json()
    (flagged,) = (c for c in found.configurations if c.flags)
    assert flagged.flags == ["1 of 5 replicates did not measure a number"]
    assert flagged.standing == "not ranked"
    assert flagged.statistics["knn_top1"].n == 4
    assert any("Not ranked: fixed" in note for note in found.notes)


@given(st.integers(2, 5), st.integers(2, 6))
def test_all_the_same_is_no_winner(k: int, n: int) -> None:
    found = answer_to([[0.5] * n] * k)
    assert found.verdict == "none"
    assert {c.more_seeds for c in found.configurations} == {None}
    assert " mean, 0.500 ± 0.00" in found.sentence
    assert found.sentence.endswith(f"({n} seeds).")


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 5))
def test_less_is_more_in_the_mirror(source: int, k: int, n: int) -> None:
    rng = np.random.default_rng(source)
    values = rng.normal(size=(k, n)) + rng.normal(size=(k, 1)) * 4
    up = answer_to(values)
    down = answer(question(mode="min"), rows(-values))
    assert [(c.number, c.standing) for c in up.configurations] == [(c.number, c.standing) for c in down.configurations]


@given(st.integers(0, 2**32 - 1))
def test_an_interval_excludes_zero_just_where_the_words_say_different(source: int) -> None:
    rng = np.random.default_rng(source)
    found = answer_to(rng.normal(size=(4, 4)) + rng.normal(size=(4, 1)) * 5)
    for c in found.configurations:
        for difference in [c.differences["knn_top1"]] if c.differences else []:
            assert difference.low_adjusted is not None
            assert difference.high_adjusted is not None
            outside = difference.low_adjusted > 0 or difference.high_adjusted < 0
            assert outside == (difference.p_adjusted is not None and difference.p_adjusted <= 0.05)
            assert (c.standing == "worse") == (outside and difference.mean < 0)


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"state": "failed", "epoch": 3}, "1 of 5 replicates failed"),
        ({"state": "stopped", "epoch": 12}, "1 of 5 replicates stopped early"),
        ({"metrics": {}}, "1 of 5 replicates did not measure it"),
        ({"epoch": 50, "epochs": 50}, "trained 50 epochs, the others 25"),
    ],
)
def test_what_is_no_equal_is_flagged_and_not_ranked(fields: dict[str, Any], flag: str) -> None:
    trials = rows(BEST)
    best = trials[7]  # of the best configuration
    trials[7] = TrialRow(**(vars(best) | fields))
    found = answer(question(), trials)
    flagged = next(c for c in found.configurations if c.label == "fixed 0.1")
    assert (flagged.flags, flagged.standing, flagged.rank) == ([flag], "not ranked", None)
    assert found.sentence.startswith("fixed 0 is best")
    assert found.notes[0] == f"Not ranked: fixed 0.1 ({flag})."


def test_what_was_never_begun_or_still_runs_flags_nothing() -> None:
    trials = rows(BEST)
    trials[4] = row(4, 0, 4, None, state="stopped", epoch=0)
    trials[9] = row(9, 1, 4, 0.3, state="running", epoch=2)
    found = answer(question(), trials)
    assert [c.flags for c in found.configurations] == [[], [], []]
    assert found.verdict == "best"
    assert (found.final, found.trials_done) == (False, 14)
    assert found.sentence.startswith("So far, with 14 of 15 trials ended: fixed 0.1 is best: 0.877")
    assert any("still run" in note for note in found.notes)


def test_missing_replicates_do_not_put_one_ahead_for_easier_seeds() -> None:
    """Seed 2 is a hard one, and the worse configuration has not had it yet."""
    trials = rows([[0.90, 0.91, 0.50], [0.88, 0.89, 0.48]])
    trials[5] = row(5, 1, 2, None, state="pending", epoch=0)
    assert answer(question(), trials).leader == 0


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ([row(k, k, 0, 0.9) for k in range(4)], "No statement: no two configurations have two replicates each"),
        ([row(0, 0, 0, None, state="running")], "No statement yet: no trial has ended with a k-NN accuracy."),
        ([row(k, 0, k, 0.9 + k / 100) for k in range(3)], "No comparison: fixed 0 has 0.910 ± 0.025 (3 seeds) and is"),
        ([*rows([[0.8, 0.81]]), row(2, 1, 0, 0.9)], "No comparison: fixed 0 has 0.805 ± 0.064 (2 seeds) and no other"),
        ([], "No statement yet"),
    ],
)
def test_no_statement_is_said_so(trials: list[TrialRow], sentence: str) -> None:
    found = answer(question(), trials)
    assert found.verdict == "no statement"
    assert found.sentence.startswith(sentence)
    assert (found.leader, found.why) == (None, None)


def test_the_loss_is_not_ranked_across_weightings_but_across_learning_rates() -> None:
    values = [[1.0, 1.1, 1.2], [2.0, 2.2, 2.1]]
    trials = rows(values, {"loss": values})
    across = answer(question(metric="loss", mode="min"), trials)
    assert across.verdict == "no statement"
    assert "different objectives are different quantities" in across.sentence
    assert across.configurations[0].statistics["loss"].mean == pytest.approx(1.1)
    params = [{"training.lr": t.number // 3 + 1.0, "training.seed": t.number % 3} for t in trials]
    within = [TrialRow(**(vars(t) | {"params": p})) for t, p in zip(trials, params, strict=True)]
    assert answer(question(metric="loss", mode="min"), within).verdict != "no statement"


@pytest.mark.parametrize(
    ("path", "values", "metric", "reason"),
    [
        ("data.path", ["/a", "/b"], "knn_top1", "measured on different data"),
        ("evaluation.knn_k", [5, 20], "knn_top1", "measured in different ways"),
        ("training.batch_size", [64, 128], "h_r", "depends on the number of images in a batch"),
        ("objective.mutual_information.order", [1.5, 2.0], "i_rz", "measured at the order of I(R;Z) in the loss"),
        (
            "objective.mutual_information",
            [{"order": 1}, {"order": 2}],
            "balance",
            "objective.mutual_information differs",
        ),
        ("objective", [{"mutual_information": {"order": k}} for k in (1, 2)], "i_rz", "and objective differs"),
    ],
)
def test_what_cannot_be_compared_is_not_ranked(path: str, values: list[Any], metric: str, reason: str) -> None:
    trials = [
        TrialRow(2 * k + seed, {path: value, "training.seed": seed}, "succeeded", 25, 25, {metric: k + seed / 10})
        for k, value in enumerate(values)
        for seed in (0, 1)
    ]
    found = answer(question(metric=metric), trials)
    assert found.verdict == "no statement"
    assert reason in found.sentence


def test_what_is_measured_at_different_orders_says_no_why() -> None:
    path = "objective.mutual_information.order"
    beside = {"h_r": 2.0, "i_rz": 1.0, "balance": 1.5}
    trials = [
        TrialRow(3 * k + seed, {path: order, "training.seed": seed}, "succeeded", 25, 25,
                 {"knn_top1": 0.9 - k / 10 + seed / 100} | {m: x + k + (seed + k) ** 2 / 99 for m, x in beside.items()})
        for k, order in enumerate((1.5, 2.0))
        for seed in range(3)
    ]  # fmt: skip
    found = answer(question(), trials)
    assert found.verdict == "best"
    assert set(found.configurations[1].differences) == {"knn_top1", "h_r"}
    assert "i_rz" not in {a.measure for a in found.without_labels}


@pytest.mark.parametrize(
    ("path", "values"),
    [("data.image_size", [8, 16]), ("evaluation.every_epochs", [1, 5]), ("data.augmentation.flip", [0, 1])],
)
def test_what_leaves_the_measure_alone_is_ranked(path: str, values: list[Any]) -> None:
    trials = [
        TrialRow(2 * k + seed, {path: value, "training.seed": seed}, "succeeded", 25, 25, {"knn_top1": k + seed / 10})
        for k, value in enumerate(values)
        for seed in (0, 1)
    ]
    assert answer(question(), trials).verdict != "no statement"


def test_a_population_and_a_single_run_are_no_comparison() -> None:
    space = {"training.lr": {"uniform": [0.1, 0.5]}}
    search = {"trials": 2, "space": space, "scheduler": {"name": "pbt"}}
    population = Question.of(validate_spec({"name": "x", "search": search}))
    assert "pbt" in answer(population, rows(BEST)).sentence
    single = answer(Question.of(validate_spec({"name": "x"})), [TrialRow(0, {}, "succeeded", 9, 9, {"knn_top1": 0.5})])
    assert single.sentence == "No comparison: a single run. k-NN accuracy 0.500."
    assert [c.label for c in single.configurations] == ["adaptive"]


def test_numbers_spelt_differently_are_the_same_values() -> None:
    def trial(number: int, lr: float, seed: int, value: float) -> TrialRow:
        return TrialRow(number, {"training.lr": lr, "training.seed": seed}, "succeeded", 9, 9, {"knn_top1": value})

    stored = Question.of_stored({"search": {"space": {"training.lr": {}}}, "training": {"seed": 3}})
    trials = [trial(0, 1, 0, 0.5), trial(1, 1.0, 1, 0.6), trial(2, 2, 0, 0.5), trial(3, 2, 1, 0.7)]
    found = answer(stored, trials)
    assert [c.seeds for c in found.configurations] == [[0, 1], [0, 1]]
    assert found.configurations[0].label == "lr=2"


def test_what_tpe_has_yet_to_choose_is_no_configuration_and_seeds_alone_are_one() -> None:
    space = {"training.lr": {"uniform": [0.1, 0.5]}}
    tpe = {"algorithm": "tpe", "trials": 2, "seeds": 2, "space": space}
    waiting = TrialRow(1, {"training.seed": 0}, "pending", 0, 0, {})
    chosen = TrialRow(0, {"training.lr": 0.2, "training.seed": 0}, "succeeded", 9, 9, {"knn_top1": 0.5})
    found = answer(Question.of(validate_spec({"name": "x", "search": tpe})), [chosen, waiting])
    assert [c.label for c in found.configurations] == ["adaptive, lr=0.2"]
    grid = {"algorithm": "grid", "space": {"training.seed": {"choice": [0, 1]}}}
    alone = [TrialRow(k, {"training.seed": k}, "succeeded", 9, 9, {"knn_top1": 0.5}) for k in (0, 1)]
    (only,) = answer(Question.of(validate_spec({"name": "x", "search": grid})), alone).configurations
    assert (only.label, only.seeds) == ("adaptive", [0, 1])


def test_measures_without_labels_are_held_against_the_accuracy() -> None:
    entropy = [[1.0] * 5, [3.0] * 5, [2.0] * 5]
    rank = [[30.0] * 5, [10.0] * 5, [20.0] * 5]
    found = answer_to(BEST, {"h_r": entropy, "erank_r": rank})
    by_measure = {a.measure: a for a in found.without_labels}
    assert by_measure["h_r"].tau == pytest.approx(1 / 3)
    assert (by_measure["h_r"].picks, by_measure["h_r"].costs) == (1, 0.0)
    assert by_measure["erank_r"].tau == pytest.approx(-1 / 3)
    assert by_measure["erank_r"].picks == 0
    assert by_measure["erank_r"].costs == pytest.approx(0.874 - 0.812)
    assert by_measure["h_r"].low is None  # three configurations are too few
    assert found.selection == (
        "Chosen without labels, the best mean k-NN accuracy would have been missed by: H(R) 0.000 (tau 0.33); "
        "effective rank 0.062 (tau −0.33)."
    )
    assert answer_to(BEST).selection is None


def test_many_names_are_counted_not_listed() -> None:
    rng = np.random.default_rng(2)
    trials = [
        TrialRow(
            5 * k + seed,
            {"objective.weighting": {"policy": "fixed", "alpha": k / 20}, "training.seed": seed},
            "succeeded", 25, 25, {"knn_top1": 0.5 + (0.4 if k == 7 else 0.0) + rng.normal(0, 1e-4)},
        )
        for k in range(20)
        for seed in range(5)
    ]  # fmt: skip
    found = answer(question(), trials)
    assert found.verdict == "best"
    assert found.sentence.endswith("and 15 others are worse (by 0.400).")


def test_a_label_with_a_comma_is_told_apart_in_a_list() -> None:
    params = [{"objective.weighting": weighting(k), "training.lr": 0.1} for k in range(3)]
    trials = [
        TrialRow(5 * k + s, p | {"training.seed": s}, "succeeded", 25, 25, {"knn_top1": BEST[k][s]})
        for k, p in enumerate(params)
        for s in range(5)
    ]
    assert "fixed 0, lr=0.1 (−0.062" in answer(question(), trials).sentence
