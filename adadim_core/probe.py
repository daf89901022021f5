"""Linear probes: how well a linear classifier on R separates the classes, fitted after training or trained alongside.

Owns the classifiers. Does not own the embedding of images (evaluation) or when they run (trainer).

Shapes: N samples, D = D_r dimensions, C classes.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adadim_core.data import UNLABELLED
from adadim_core.evaluation import require_labelled

_ONLINE_LR = 1e-3


def linear_probe_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    *,
    c: float = 1.0,
    iterations: int = 1000,
) -> float:
    """Accuracy of multinomial logistic regression, fitted to convergence by L-BFGS.

    It minimises the sum of cross entropies + |W|^2 / (2 c), with a bias that is not penalised, on dimensions that
    are standardised over the bank: scikit-learn's LogisticRegression(C=c) behind its StandardScaler.

    Args:
        bank: representations to fit on.
        bank_labels: int64, from 0.
        queries: representations to classify.
        labels: their true labels; one that is missing in the bank counts as an error.
        c: inverse strength of the regularisation.
        iterations: limit for the iterations of L-BFGS.

    Returns:
        Accuracy in [0, 1], or NaN where a representation is not finite.

    Raises:
        ValueError: shapes or labels do not fit each other.
    """
    require_labelled(bank, bank_labels, queries, labels)
    bank_labels = bank_labels.long()
    if not bool(bank.isfinite().all() & queries.isfinite().all()):
        return math.nan
    std_D, mean_D = torch.std_mean(bank, dim=0, correction=0)
    scale_D = torch.where(std_D > 0, std_D, 1.0)
    weight_CD, bias_C = _fit((bank - mean_D) / scale_D, bank_labels, c, iterations)
    scores_MC = (queries - mean_D) / scale_D @ weight_CD.T + bias_C
    return float((scores_MC.argmax(dim=1) == labels).double().mean().item())


def few_label_rows(labels: Tensor, share: float) -> Tensor:
    """Rows of a share of each class, one at least, the same at every call: those a probe with few labels learns from.

    Args:
        labels: (N,) int64, from 0.
        share: of the images of a class, in (0, 1].
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).to(labels.device)
    # Grouped by class, in random order within each; an image's place in its class decides.
    order = shuffled[labels[shuffled].sort(stable=True).indices]
    counts = labels.bincount()
    first = (counts.cumsum(dim=0) - counts)[labels[order]]
    wanted = (share * counts).round().clamp(min=1)[labels[order]]
    return order[torch.arange(len(order), device=order.device) - first < wanted]


@torch.enable_grad()
def _fit(x: Tensor, labels: Tensor, c: float, iterations: int) -> tuple[Tensor, Tensor]:
    classes = int(labels.max()) + 1
    weight_CD = x.new_zeros((classes, x.shape[1]), requires_grad=True)
    bias_C = x.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_CD, bias_C],
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = weight_CD.square().sum() / (2 * c * len(x))
        loss = cross_entropy(x @ weight_CD.T + bias_C, labels) + penalty
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight_CD.detach(), bias_C.detach()


class OnlineProbe(nn.Module):
    """A linear classifier trained on R beside the encoder, with an optimiser of its own. R is taken detached.

    R is standardised by running statistics, so that one learning rate serves every network. It starts from zero:
    the problem is convex, and nothing random enters the run.
    """

    def __init__(self, features: int, classes: int, device: torch.device) -> None:
        super().__init__()
        self._standardize = nn.BatchNorm1d(features, affine=False, device=device)
        self._linear = nn.Linear(features, classes, device=device)
        for parameter in self._linear.parameters():
            nn.init.zeros_(parameter)
        self._optimizer = torch.optim.Adam(self._linear.parameters(), lr=_ONLINE_LR, fused=True)

    def forward(self, r: Tensor) -> Tensor:
        scores_NC: Tensor = self._linear(self._standardize(r))
        return scores_NC

    def learn(self, r: Tensor, labels: Tensor) -> None:
        """One step on a batch. No gradient reaches the encoder."""
        self._optimizer.zero_grad()
        torch.autograd.backward(self._loss(r.detach().float(), labels))
        self._optimizer.step()

    @torch.no_grad()
    def accuracy(self, queries: Tensor, labels: Tensor) -> float:
        """Accuracy in [0, 1], or NaN where a representation is not finite."""
        if not bool(queries.isfinite().all()):
            return math.nan
        self.eval()
        correct = self(queries.float()).argmax(dim=1) == labels
        self.train()
        return float(correct.double().mean().item())

    def _loss(self, r: Tensor, labels: Tensor) -> Tensor:
        # Over those whose class is known, of which a batch may have none.
        known = (labels != UNLABELLED).sum().clamp(min=1)
        return cross_entropy(self(r), labels, ignore_index=UNLABELLED, reduction="sum") / known

    def training_state(self) -> dict[str, Any]:
        """Weights, statistics and optimiser, for a checkpoint."""
        return {"model": self.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
