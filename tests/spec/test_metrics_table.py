"""The table of metrics: what it must hold for everything that is shown and ranked by it."""

import typing

import pytest

from adadim_core.spec import SpecError, parse_spec
from adadim_core.spec.metrics import METRICS, RankingMetric, metric_title, summary_titles
from adadim_core.spec.sections import EvaluationSpec


def test_every_metric_has_words_of_its_own():
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)
    assert all(metric.description for metric in METRICS.values())
    assert all(name == metric.name for name, metric in METRICS.items())


def test_a_spec_ranks_by_the_metrics_that_the_table_lets_rank_and_by_no_other():
    assert typing.get_args(RankingMetric) == tuple(name for name, metric in METRICS.items() if metric.ranks)
    for name, metric in METRICS.items():
        text = f"""
            name: ranked
            data: {{dataset: image_folder, path: /images}}
            evaluation: {{linear_probe: online, few_labels: true, transfer: {{dataset: digits}}}}
            search: {{metric: {name}, trials: 1, space: {{training.lr: {{uniform: [0.1, 0.2]}}}}}}
        """
        if metric.ranks:
            assert parse_spec(text).search.metric == name
        else:
            with pytest.raises(SpecError, match=r"/search/metric: .*knn_top1.*, not "):
                parse_spec(text)


def test_a_table_of_trials_shows_the_metric_that_ranks_them_once():
    summary = summary_titles()
    assert summary_titles("h_r") == summary
    assert summary_titles("loss") == summary | {"loss": "Loss"}
    assert metric_title("of_another_version") == "of_another_version"


def test_what_the_table_says_of_a_metric_fits_together():
    for metric in METRICS.values():
        assert not (metric.label_free and metric.needs_labels), metric.name
        assert not metric.share_of_images or (metric.needs_labels and metric.higher_is_better), metric.name
        assert not (metric.of_all_images and metric.needs_labels), metric.name
        assert metric.limits is None or metric.limits[0] < metric.limits[1], metric.name


def test_what_has_to_be_asked_for_is_lacking_until_it_is():
    asked = {"linear_probe": "online", "few_labels": True, "transfer": {"dataset": "digits"}}
    assert {metric.asked_by for metric in METRICS.values()} == {"", *asked}
    for name, metric in METRICS.items():
        lacking = EvaluationSpec().lacking(name)
        assert lacking.startswith(f"evaluation.{metric.asked_by}") if metric.asked_by else lacking is None
        assert EvaluationSpec.model_validate(asked).lacking(name) is None
