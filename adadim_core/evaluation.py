"""How good the representation is: weighted k-nearest-neighbour classification by R.

Owns the classifier and the embedding of whole data sets. Does not own when it runs (trainer).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from adadim_core.distributed import gather, rank, world_size

_CHUNK = 1024


@torch.no_grad()
def embed(encoder: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """R of whole images, un-augmented, in eval mode: (N, D_r) float32.

    With several processes each embeds a share and all get the whole.

    Args:
        encoder: maps uint8 images to (n, D_r). Its training mode is left as it was.
        images: uint8.
        batch_size: images at a time.
    """
    training = encoder.training
    encoder.eval()
    n, world = images.shape[0], world_size()
    share = -(-n // world)
    # The last shares are filled up with the last image, so that all have one length.
    index = torch.arange(rank() * share, (rank() + 1) * share, device=images.device).clamp(max=n - 1)
    r = torch.cat([encoder(images[part]).float() for part in torch.split(index, batch_size)])
    encoder.train(training)
    return gather(r).flatten(0, 1)[:n]


@torch.no_grad()
def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of queries that their k nearest neighbours classify correctly (Wu et al. 2018).

    Neighbours are the bank's rows with the highest cosine similarity s; each votes for its label with weight
    exp(s / temperature).

    Args:
        bank: representations with known labels; k is limited to N.
        bank_labels: int64, from 0.
        queries: representations to classify.
        labels: their true labels.

    Returns:
        Accuracy in [0, 1], or NaN where a representation is not finite.
    """
    if not bool(bank.isfinite().all() & queries.isfinite().all()):
        return math.nan
    bank, queries = normalize(bank, dim=1), normalize(queries, dim=1)
    k, classes = min(k, len(bank)), int(bank_labels.max()) + 1
    correct = torch.zeros((), device=bank.device)
    for q_BD, label_B in zip(torch.split(queries, _CHUNK), torch.split(labels, _CHUNK), strict=True):
        similarity_Bk, index_Bk = (q_BD @ bank.T).topk(k, dim=1)
        # Relative to the nearest: the same votes up to a common factor, and no overflow at low temperatures.
        votes_Bk = ((similarity_Bk - similarity_Bk[:, :1]) / temperature).exp()
        score_BC = votes_Bk.new_zeros((len(q_BD), classes)).scatter_add_(1, bank_labels[index_Bk], votes_Bk)
        correct += (score_BC.argmax(dim=1) == label_B).sum()
    return float(correct.item()) / len(queries)
