"""Quality of a representation, estimated without labels: RankMe, alpha-ReQ, LiDAR, balance of H(R) and I(R;Z).

Owns the measures. Does not own when they are taken (trainer, measurement), nor what they are worth: for a sweep with
labels the answer says how well each would have ranked it (adadim_core/answers).

Shapes: N samples of D dimensions. Everything is computed in float64, and any NaN or infinity gives NaN.
"""

import math

import torch
from torch import Tensor

SAMPLES = 4096
"""Images that RankMe and alpha-ReQ are taken on, at most."""
_EPSILON = 1e-7
_LIDAR_DELTA = 1e-4
_FIRST, _LAST, _FEWEST = 11, 100, 10
"""Eigenvalues that the power law is fitted to, by rank, and how many there must be."""


@torch.no_grad()
def rankme(z: Tensor) -> float:
    """exp(-sum p log p), p = singular values of Z over their sum, plus 1e-7 (Garrido et al. 2023), in [1, min(N, D)].

    Not centred, as its authors define it. Higher is better.

    Args:
        z: (N, D) embeddings of images.
    """
    if not bool(z.isfinite().all()):
        return math.nan
    singular = _gram_eigenvalues(z.double()).sqrt()
    return _exp_entropy(singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny) + _EPSILON)


@torch.no_grad()
def alpha_req(r: Tensor) -> float:
    """The exponent a of eigenvalues k^-a of the covariance of R (Agrawal et al. 2022): best where close to 1.

    Fitted in logarithms to eigenvalues 11 to 100, with weights 1 / k, as Stringer et al. (2019) do. NaN where fewer
    than ten of them are larger than rounding in float32.

    Args:
        r: (N, D) representations of images.
    """
    if not bool(r.isfinite().all()):
        return math.nan
    eigenvalues = _gram_eigenvalues(r.double() - r.double().mean(dim=0)).flip(0)
    floor = eigenvalues[0] * max(r.shape) * torch.finfo(torch.float32).eps ** 2
    count = min(int((eigenvalues > floor).sum()), _LAST)
    if count < _FIRST + _FEWEST - 1:
        return math.nan
    k = torch.arange(_FIRST, count + 1, dtype=torch.float64, device=r.device)
    x, y, weight = k.log(), eigenvalues[_FIRST - 1 : count].log(), 1 / k
    x, y = (v - (weight * v).sum() / weight.sum() for v in (x, y))
    return -float((weight * x * y).sum() / (weight * x * x).sum())


@torch.no_grad()
def scatter(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """(D, D) covariance of the images' means and (D, D) mean covariance of an image's views, for `lidar`.

    Args:
        z1, z2: (N, D) embeddings of two views of the same images.
    """
    n = len(z1)
    z1, z2 = z1.double(), z2.double()
    means = (z1 + z2) / 2
    means = means - means.mean(dim=0)
    half = (z1 - z2) / 2  # each view is this far from its image's mean, in opposite directions
    return means.T @ means / n, half.T @ half / n


@torch.no_grad()
def lidar(between: Tensor, within: Tensor) -> float:
    """Effective rank of the discriminant W^-1/2 B W^-1/2, W = within + 1e-4 (Thilak et al. 2024). Higher is better.

    Args:
        between, within: as `scatter` gives them. Means are told from views only where there are more images than
            dimensions (`allows_lidar`).
    """
    if not bool(between.isfinite().all() & within.isfinite().all()):
        return math.nan
    values, vectors = torch.linalg.eigh(within)
    root = vectors / (values.clamp(min=0.0) + _LIDAR_DELTA).sqrt()
    eigenvalues = torch.linalg.eigvalsh(root.T @ between @ root).clamp(min=0.0)
    return _exp_entropy(eigenvalues / eigenvalues.sum().clamp(min=torch.finfo(torch.float64).tiny) + _EPSILON)


def allows_lidar(n: int, d: int) -> bool:
    """Whether n images with two views each fill the d dimensions between and within images."""
    return n > d


def balance(h_r: float, i_rz: float) -> float:
    """2 sqrt(I (H - I)), in nats, in [0, H]: what Z shares of R's entropy against what it does not.

    H(R) falls into I(R;Z), which the losses shape through Z, and the rest, which R holds beyond Z. The score is H(R)
    where both are as large, and 0 where one of them is: neither the highest H(R), all of it in Z, nor the lowest
    I(R;Z), an R the losses do not reach, scores high. A choice of this project's; docs/method.md has the reasons.
    """
    if math.isnan(h_r) or math.isnan(i_rz):
        return math.nan
    return 2 * math.sqrt(max(i_rz, 0.0) * max(h_r - i_rz, 0.0))


def measures_of_images(r: Tensor, z: Tensor) -> dict[str, float]:
    """RankMe of Z and alpha-ReQ of R by metric name; the latter only if R has enough dimensions.

    Args:
        r: (N, D_r) representations of images, un-augmented.
        z: (N, D_z) their embeddings.
    """
    values = {"rankme": rankme(z)}
    if min(r.shape) >= _FIRST + _FEWEST - 1:
        values["alpha_req"] = alpha_req(r)
        values["alpha_req_distance"] = abs(values["alpha_req"] - 1)
    return values


def evaluation_sample(rows: Tensor) -> Tensor:
    """At most SAMPLES of some rows, evenly spread over them, since sets are often sorted by class."""
    n = len(rows)
    return rows if n <= SAMPLES else rows[torch.arange(SAMPLES, device=rows.device) * n // SAMPLES]


def _gram_eigenvalues(x: Tensor) -> Tensor:
    """Squared singular values of x, ascending, from the smaller Gram matrix."""
    n, d = x.shape
    eigenvalues: Tensor = torch.linalg.eigvalsh(x @ x.T if n <= d else x.T @ x).clamp(min=0.0)
    return eigenvalues


def _exp_entropy(p: Tensor) -> float:
    return math.exp(-float((p * p.log()).sum()))
