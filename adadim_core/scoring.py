"""Scores of the representation of un-augmented images, with and without labels.

Owns which scores a data set allows and the images each is computed on. Does not own the classifiers (evaluation,
probe), the measures (label_free), the second data set (second_set) or when they run (trainer).
"""

import torch
from torch import Tensor

from adadim_core.data import ImageDataset
from adadim_core.evaluation import embed, knn_accuracy, knn_mean_average_precision
from adadim_core.label_free import evaluation_sample, measures_of_images
from adadim_core.models import SelfSupervisedModel
from adadim_core.precision import autocast
from adadim_core.probe import OnlineProbe, few_label_rows, linear_probe_accuracy
from adadim_core.second_set import second_set_scores
from adadim_core.spec.sections import EvaluationSpec


@torch.no_grad()
def scores(
    model: SelfSupervisedModel,
    data: ImageDataset,
    settings: EvaluationSpec,
    *,
    batch_size: int,
    dtype: torch.dtype,
    probe: OnlineProbe | None,
    final: bool,
    second: ImageDataset | None = None,
) -> dict[str, float]:
    """Scores by metric name. With several processes all must call it.

    `rankme` of Z and `alpha_req` of R are computed on training images, labelled ones if there are any. With labels,
    shares of the held-out images in [0, 1]: `knn_top1`, or `knn_map` if images have several labels; `linear_top1`,
    `few_labels_1` and `few_labels_10` if the settings ask for them; and likewise of the second data set.

    Args:
        batch_size: images at a time.
        dtype: what the encoder computes in.
        probe: the online probe trained so far, if there is one.
        final: whether training is over: offline probes are fitted then, and the second data set is embedded.
        second: the second data set, from `load_second_set`.
    """
    values = _own_scores(model, data, settings, batch_size=batch_size, dtype=dtype, probe=probe, final=final)
    if second is not None and final:
        values |= second_set_scores(model.encoder, second, settings, batch_size=batch_size, dtype=dtype)
    return values


def _own_scores(
    model: SelfSupervisedModel,
    data: ImageDataset,
    settings: EvaluationSpec,
    *,
    batch_size: int,
    dtype: torch.dtype,
    probe: OnlineProbe | None,
    final: bool,
) -> dict[str, float]:
    """Scores on the data set that is trained on; arguments as for `scores`."""
    device = next(model.parameters()).device
    by_labels = bool(data.accuracy_metrics)
    rows = data.labelled_rows if by_labels else evaluation_sample(torch.arange(len(data.train_images)))
    with autocast(device, dtype):
        bank_ND = embed(model.encoder, data.train_images, batch_size=batch_size, rows=rows)
    sample_ND = bank_ND[evaluation_sample(torch.arange(len(bank_ND), device=bank_ND.device))]
    values = measures_of_images(sample_ND, _embeddings(model, sample_ND))
    if not by_labels:
        return values
    with autocast(device, dtype):
        queries_MD = embed(model.encoder, data.test_images, batch_size=batch_size)
    labelled = (bank_ND, data.train_labels[data.labelled_rows], queries_MD, data.test_labels)
    k, temperature = settings.knn_k, settings.knn_temperature
    if "knn_map" in data.accuracy_metrics:
        return values | {"knn_map": knn_mean_average_precision(*labelled, k=k, temperature=temperature)}
    values["knn_top1"] = knn_accuracy(*labelled, k=k, temperature=temperature)
    if probe is not None:
        values["linear_top1"] = probe.accuracy(queries_MD, data.test_labels)
    elif settings.linear_probe == "offline" and final:
        values["linear_top1"] = linear_probe_accuracy(*labelled)
    if settings.few_labels and final:
        bank, bank_labels, *held_out = labelled
        for percent in (1, 10):
            few = few_label_rows(bank_labels, percent / 100)
            values[f"few_labels_{percent}"] = linear_probe_accuracy(bank[few], bank_labels[few], *held_out)
    return values


def _embeddings(model: SelfSupervisedModel, r: Tensor) -> Tensor:
    """(N, D_z) Z of (N, D_r) R, in eval mode; the projector's mode is left as it was."""
    training = model.projector.training
    model.projector.eval()
    z: Tensor = model.projector(r)
    model.projector.train(training)
    return z
