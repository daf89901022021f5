"""How good the representation is: classification and ranking of held-out images by weighted k nearest neighbours in R.

Owns the classifier and the embedding of whole data sets. Does not own when it runs (trainer).
"""

import math
from collections.abc import Iterator
from contextlib import closing
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from adadim_core.data import Images, image_batches
from adadim_core.distributed import gather, rank, world_size

# Similarities held at a time: 64 MiB of float32, however large the bank. More queries than this gain no speed.
_SIMILARITIES, _QUERIES = 2**24, 1024


@torch.no_grad()
def embed(encoder: nn.Module, images: Images, *, batch_size: int, rows: Tensor | None = None) -> Tensor:
    """R of whole images, un-augmented, in eval mode: (N, D_r) float32.

    With several processes each embeds a share and all get the whole.

    Args:
        encoder: maps uint8 images to (n, D_r). Its training mode is left as it was.
        images: uint8.
        batch_size: images at a time.
        rows: which of the images; None: all of them.
    """
    training = encoder.training
    encoder.eval()
    device = next(chain(encoder.parameters(), encoder.buffers())).device
    rows = torch.arange(len(images)) if rows is None else rows
    n, world = len(rows), world_size()
    share = -(-n // world)
    # The last shares are filled up with the last image, so that all have one length.
    index = torch.arange(rank() * share, (rank() + 1) * share, device=rows.device).clamp(max=n - 1)
    mine = rows[index].to(images.device)
    r = torch.empty(0)
    done = 0
    with closing(image_batches(images, torch.split(mine, batch_size), device)) as batches:
        for batch in batches:
            part = encoder(batch).float()
            if not done:
                r = part.new_empty((share, part.shape[1]))  # joining parts at the end would need the memory twice
            r[done : done + len(part)] = part
            done += len(part)
    encoder.train(training)
    return gather(r).flatten(0, 1)[:n]


def require_labelled(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless these are representations with one label each, from which a classifier can learn."""
    if bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise ValueError(f"bank (N, D) and queries (M, D) are needed, not {(*bank.shape,)} and {(*queries.shape,)}")
    if not len(bank) or not len(queries):
        raise ValueError("bank and queries need at least one row each")
    for name, x, y in (("bank_labels", bank, bank_labels), ("labels", queries, labels)):
        if y.shape != x.shape[:1] or y.is_floating_point():
            raise ValueError(f"{name} must be {len(x)} whole numbers, not {y.dtype} of shape {(*y.shape,)}")
    if bool((bank_labels < 0).any()):
        raise ValueError("bank_labels must not be negative: leave unlabelled rows out")


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

    Raises:
        ValueError: shapes or labels do not fit each other, or k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    require_labelled(bank, bank_labels, queries, labels)
    bank_labels = bank_labels.long()
    if not bool(bank.isfinite().all() & queries.isfinite().all()):
        return math.nan
    classes = int(bank_labels.max()) + 1
    correct = torch.zeros((), device=bank.device)
    chunks = _neighbours(bank, queries, k=k, temperature=temperature)
    for (votes_Bk, index_Bk), label_B in zip(chunks, torch.split(labels, _chunk(bank)), strict=True):
        score_BC = votes_Bk.new_zeros((len(label_B), classes)).scatter_add_(1, bank_labels[index_Bk], votes_Bk)
        correct += (score_BC.argmax(dim=1) == label_B).sum()
    return float(correct.item()) / len(queries)


@torch.no_grad()
def knn_mean_average_precision(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """How well the k nearest neighbours rank the queries by each of several labels: mean of the average precisions.

    A query's score for a label is the share of its neighbours' votes, weighted as in `knn_accuracy`, that have the
    label. The average precision of a label is the mean, over the queries that have it, of the precision among the
    queries that score at least as high; queries with equal scores enter together. Labels that all queries or no queries
    have do not count.

    Args:
        bank: representations with known labels; k is limited to N.
        bank_labels: (N, K), 1 where the image has the label.
        queries: representations to rank.
        labels: (M, K), their true labels.

    Returns:
        A share in [0, 1], or NaN where a representation is not finite or no label counts.

    Raises:
        ValueError: shapes do not fit each other, or k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    fit = bank.ndim == queries.ndim == bank_labels.ndim == labels.ndim == 2
    if not fit or len(bank) != len(bank_labels) or len(queries) != len(labels):
        raise ValueError("a row of labels is needed for each row of bank (N, D) and queries (M, D)")
    if bank.shape[1] != queries.shape[1] or bank_labels.shape[1] != labels.shape[1]:
        raise ValueError("bank and queries need the same dimensions and the same labels")
    if not bool(bank.isfinite().all() & queries.isfinite().all()):
        return math.nan
    bank_labels_NK = bank_labels.to(bank.dtype)
    scores_MK = torch.cat(
        [
            torch.einsum("bk,bkl->bl", votes_Bk / votes_Bk.sum(dim=1, keepdim=True), bank_labels_NK[index_Bk])
            for votes_Bk, index_Bk in _neighbours(bank, queries, k=k, temperature=temperature)
        ]
    )
    counted = (labels.min(dim=0).values != labels.max(dim=0).values).nonzero().flatten()
    if not len(counted):
        return math.nan
    found = [_average_precision(scores_MK[:, label], labels[:, label] > 0) for label in counted.tolist()]
    return float(torch.stack(found).mean().item())


def _average_precision(scores: Tensor, relevant: Tensor) -> Tensor:
    order = scores.argsort(descending=True)
    scores_M, relevant_M = scores[order], relevant[order].double()
    # A query's rank is that of the last one with its score.
    rank_M = torch.searchsorted(-scores_M, -scores_M, right=True)
    precision_M = relevant_M.cumsum(dim=0)[rank_M - 1] / rank_M
    return (precision_M * relevant_M).sum() / relevant_M.sum()


def _chunk(bank: Tensor) -> int:
    return max(1, min(_QUERIES, _SIMILARITIES // len(bank)))


def _neighbours(bank: Tensor, queries: Tensor, *, k: int, temperature: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Votes and rows of the k nearest neighbours, for chunk after chunk of the queries."""
    # The scale goes onto the products: rows scaled to length one would be a second bank.
    inverse_N = 1 / torch.linalg.vector_norm(bank, dim=1).clamp(min=1e-12)
    k = min(k, len(bank))
    for q_BD in torch.split(queries, _chunk(bank)):
        similarity_Bk, index_Bk = (normalize(q_BD, dim=1) @ bank.T).mul_(inverse_N).topk(k, dim=1)
        # Relative to the nearest: the same votes up to a common factor, and no overflow at low temperatures.
        yield ((similarity_Bk - similarity_Bk[:, :1]) / temperature).exp(), index_Bk
