"""Transfer: how well R serves on a data set that the encoder was not trained on.

Owns how the second set is read to fit the encoder, and its scores. Does not own the classifiers (evaluation, probe).
"""

import torch
from torch import Tensor, nn

from adadim_core.augmentation import LUMA
from adadim_core.data import DataError, ImageDataset, load_dataset
from adadim_core.evaluation import embed, knn_accuracy
from adadim_core.models import Encoder
from adadim_core.precision import autocast
from adadim_core.probe import linear_probe_accuracy
from adadim_core.spec.sections import EvaluationSpec


def load_second_set(settings: EvaluationSpec, trained_on: ImageDataset) -> ImageDataset | None:
    """The data set that the settings name, its images resized to those trained on; None: they name none.

    Raises:
        DataError: it cannot be read, or has not one label for each image in both of its parts.
    """
    source = settings.transfer
    if source is None:
        return None
    side = trained_on.train_images.shape[-1]
    second = load_dataset(
        source.dataset, path=source.path, image_size=side, bad_files=source.bad_files, role="transferred to"
    )
    if "knn_top1" not in second.accuracy_metrics:
        why = second.summary.not_evaluated or "its images have several labels each"
        raise DataError(f"evaluation.transfer: {second.name} needs one label an image, and {why}")
    return second


@torch.no_grad()
def second_set_scores(
    encoder: Encoder, second: ImageDataset, settings: EvaluationSpec, *, batch_size: int, dtype: torch.dtype
) -> dict[str, float]:
    """`transfer_knn_top1` and `transfer_linear_top1`: shares of its held-out images that are classified correctly.

    Args:
        encoder: as trained; its images may have other channels than those of the set.
        second: from `load_second_set`.
        settings: of the k-NN classifier.
        batch_size: images at a time.
        dtype: what the encoder computes in.
    """
    device = next(encoder.parameters()).device
    adapted = _Adapted(encoder)
    with autocast(device, dtype):
        bank_ND = embed(adapted, second.train_images, batch_size=batch_size, rows=second.labelled_rows)
        queries_MD = embed(adapted, second.test_images, batch_size=batch_size)
    bank_labels = second.train_labels[second.labelled_rows].to(device)
    labelled = (bank_ND, bank_labels, queries_MD, second.test_labels.to(device))
    return {
        "transfer_knn_top1": knn_accuracy(*labelled, k=settings.knn_k, temperature=settings.knn_temperature),
        "transfer_linear_top1": linear_probe_accuracy(*labelled),
    }


class _Adapted(nn.Module):
    """An encoder that takes grey images for colour ones, and colour images for grey ones by their luma."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder
        self.train(encoder.training)

    def forward(self, images: Tensor) -> Tensor:
        given, wanted = images.shape[1], self._encoder.config.channels
        if given < wanted:
            images = images.expand(-1, wanted, -1, -1)
        elif given > wanted:
            weights_C11 = torch.tensor(LUMA, device=images.device).view(-1, 1, 1)
            images = (images.float() / 255 * weights_C11).sum(dim=1, keepdim=True)
        r_ND: Tensor = self._encoder(images)
        return r_ND
