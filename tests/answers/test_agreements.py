"""What measures without labels would have chosen: from the values there are, and with the weight they have."""

import math

from sweep_rows import question, row, rows

from adadim_core.answers.answer import answer


def test_a_configuration_without_a_labelled_score_is_left_out() -> None:
    accuracies = (0.8, math.nan, 0.7)
    trials = [
        row(2 * k + seed, k, seed, None, metrics={"h_r": 1.0 + k + 0.1 * seed * k, "knn_top1": accuracies[k]})
        for k in range(3)
        for seed in range(2)
    ]
    found = answer(question(metric="h_r"), trials)
    assert {(a.against, a.configurations) for a in found.without_labels} == {("knn_top1", 2)}
    nowhere = [row(t.number, t.number // 2, t.number % 2, None, metrics=t.metrics | {"knn_top1": math.nan})
               for t in trials]  # fmt: skip
    assert answer(question(metric="h_r"), nowhere).without_labels == []


def test_a_choice_by_means_that_nothing_was_said_of_has_its_caveat() -> None:
    values, entropy = [[0.80], [0.86], [0.70]], [[1.0], [3.0], [2.0]]
    one = answer(question(), rows(values, {"h_r": entropy}))
    assert one.verdict == "no statement"
    assert one.selection is not None
    assert one.selection.endswith("The means are of 1 seed each and were not tested, so that tells little.")
    more = [*rows(values, {"h_r": entropy}), row(3, 0, 1, None, metrics={"knn_top1": 0.81, "h_r": 1.1})]
    some = answer(question(), more).selection
    assert some is not None
    assert "of 1 to 2 seeds each" in some
