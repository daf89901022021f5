"""How much a batch of representations holds: effective rank, matrix-based entropy, I(R;Z), uniformity, alignment.

Owns the estimators. Does not own when they are measured or logged (trainer) or what follows from them (weighting).

Shapes: x holds N samples of D dimensions. Every function returns a scalar tensor in nats (ranks: a number),
computes in float32 at least (eigenvalues in float64), never synchronises with the host, and answers NaN to any
NaN or infinity in its input.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adadim_core.precision import full_precision

# Orders this close to 1 are taken as 1: the general formula divides by 1 - order.
_VON_NEUMANN_BAND = 1e-6
# Differences of this many units of the dtype's precision, relative to the largest value, are taken for rounding.
_ROUNDING = 16


@full_precision
def effective_rank(x: Tensor, *, center: bool = True) -> Tensor:
    """Effective rank exp(-sum p log p), p = singular values over their sum (Roy & Vetterli 2007), in [1, min(N, D)].

    Singular values come from the eigenvalues of the smaller Gram matrix in float64; those under its rounding
    error (relative to the largest, about 2e-7 for 256) count as zero. A batch that varies by no more than the
    rounding of its own dtype counts as constant, and a constant batch has rank 1.

    Args:
        x: the batch.
        center: subtract the mean of each dimension first.

    Raises:
        ValueError: x is not a matrix with at least one row and column.
    """
    _require_matrix(x)
    n, d = x.shape
    rounding = _ROUNDING * torch.finfo(x.dtype).eps
    x, finite = _zero_unless_finite(x.double())
    scale = x.detach().abs().amax()
    x = x / torch.where(scale > 0, scale, 1.0)
    if center:
        x = x - x.mean(dim=0)
    gram = x @ x.T if n <= d else x.T @ x
    constant = gram.diagonal().sum() <= n * d * rounding**2
    eigenvalues = torch.linalg.eigvalsh(gram)
    kept = eigenvalues > eigenvalues[-1] * (len(eigenvalues) * torch.finfo(torch.float64).eps)
    singular = torch.where(kept, eigenvalues, 1.0).sqrt() * kept
    total = singular.sum()
    p = singular / torch.where(total > 0, total, 1.0)
    entropy = -(p * torch.where(kept, p, 1.0).log()).sum()
    rank = torch.where(constant, 1.0, entropy.exp())
    return torch.where(finite, rank, math.nan)


@full_precision
def matrix_entropy(x: Tensor, *, order: float = 2.0, center: bool = False) -> Tensor:
    """Matrix-based Renyi entropy of a batch (Sanchez Giraldo, Rao, Principe 2015), in nats, in [0, log min(N, D)].

    H_a = log tr((K / N)^a) / (1 - a), K = A A^T with the rows of A the samples scaled to length one. Order 1 is
    the von Neumann limit -tr(K/N log K/N); order 2 needs no eigenvalues. Differentiable.

    Args:
        x: the batch.
        order: a > 0.
        center: subtract the mean of each dimension before scaling the rows.

    Raises:
        ValueError: x is not a matrix with at least one row and column, or the order is not positive.
    """
    _require_matrix(x)
    _require_order(order)
    a = _unit_rows(x, center, order)
    n, d = a.shape
    return _entropy(a @ a.T if n <= d else a.T @ a, n, order)


@full_precision
def mutual_information(r: Tensor, z: Tensor, *, order: float = 2.0, center: bool = False) -> Tensor:
    """Matrix-based Renyi mutual information I(R;Z) = H(K_R) + H(K_Z) - H(K_R * K_Z), in nats (Yu et al. 2019).

    The product is elementwise; the kernels are those of `matrix_entropy`. Differentiable in both arguments.

    Args:
        r: (N, D_r), row i the representation of sample i.
        z: (N, D_z), row i the embedding of the same sample.
        order: a > 0, as in `matrix_entropy`.
        center: subtract the means of r and z before scaling the rows.

    Raises:
        ValueError: not two matrices with the same number of rows, or the order is not positive.
    """
    _require_matrix(r)
    _require_matrix(z)
    _require_order(order)
    n = r.shape[0]
    if z.shape[0] != n:
        raise ValueError(f"r and z describe the same samples: {n} rows and {z.shape[0]} rows do not match")
    a, b = _unit_rows(r, center, order), _unit_rows(z, center, order)
    k_r, k_z = a @ a.T, b @ b.T
    return _entropy(k_r, n, order) + _entropy(k_z, n, order) - _entropy(k_r * k_z, n, order)


@full_precision
def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential exp(-t |u_i - u_j|^2) over pairs of normalised rows (Wang & Isola 2020).

    Zero when all rows point the same way; lower is more uniform.

    Raises:
        ValueError: x is not a matrix with at least two rows.
    """
    _require_matrix(x)
    n = x.shape[0]
    if n < 2:
        raise ValueError("uniformity is a mean over pairs: at least two rows are needed")
    u_ND = normalize(x, dim=1)
    exponents_NN = (2 * t * (u_ND @ u_ND.T - 1)).fill_diagonal_(-math.inf)
    return exponents_NN.flatten().logsumexp(dim=0) - math.log(n * (n - 1))


@full_precision
def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared distance of the two views' normalised rows (Wang & Isola 2020), in [0, 4]; lower is closer.

    Raises:
        ValueError: the views are not two (N, D) matrices of one shape.
    """
    _require_matrix(z1)
    if z1.shape != z2.shape:
        raise ValueError(f"the views differ in shape: {(*z1.shape,)} and {(*z2.shape,)}")
    return (normalize(z1, dim=1) - normalize(z2, dim=1)).square().sum(dim=1).mean()


def _unit_rows(x: Tensor, center: bool, order: float) -> Tensor:
    """Rows scaled to length one, (N, D + 1). float64 where eigenvalues are to come: low orders magnify rounding.

    A zero row has no direction: such rows share one of their own, the added last column. So a constant batch,
    all zero once centred, has a kernel of ones (entropy 0) rather than of zeros or of amplified rounding errors.
    """
    dtype = x.dtype
    x = x if order == 2 else x.double()
    magnitude_N1 = x.detach().abs().amax(dim=1, keepdim=True)
    negligible_N1 = torch.zeros_like(magnitude_N1)
    if center:
        mean_D = x.mean(dim=0)
        x = x - mean_D
        rounding = _ROUNDING * torch.finfo(dtype).eps
        negligible_N1 = rounding * (magnitude_N1 + mean_D.detach().abs().amax())
        magnitude_N1 = x.detach().abs().amax(dim=1, keepdim=True)
    zero_N1 = magnitude_N1 <= negligible_N1
    # Dividing by the largest entry first keeps the squares from overflowing; the direction does not depend on it.
    x = torch.where(zero_N1, 0.0, x / torch.where(zero_N1, 1.0, magnitude_N1))
    length_N1 = torch.where(zero_N1, 1.0, x.square().sum(dim=1, keepdim=True)).sqrt()
    return torch.cat([x / length_N1, zero_N1.to(x.dtype)], dim=1)


def _entropy(kernel: Tensor, n: int, order: float) -> Tensor:
    """Renyi entropy of the spectrum of kernel / n, whose trace is one. Either Gram matrix of the rows serves."""
    if order == 2:
        return -torch.log(kernel.square().sum() / n**2)
    kernel, finite = _zero_unless_finite(kernel / n)
    eigenvalues = torch.linalg.eigvalsh(kernel)
    kept = eigenvalues > len(eigenvalues) * torch.finfo(torch.float64).eps
    log_eigenvalues = torch.where(kept, eigenvalues, 1.0).log()
    if abs(order - 1) < _VON_NEUMANN_BAND:
        entropy = -(torch.where(kept, eigenvalues, 0.0) * log_eigenvalues).sum()
    else:
        # In logarithms: eigenvalue ** order underflows for large orders.
        exponents = torch.where(kept, order * log_eigenvalues, -math.inf)
        entropy = exponents.logsumexp(dim=0) / (1 - order)
    return torch.where(finite, entropy, math.nan)


def _zero_unless_finite(x: Tensor) -> tuple[Tensor, Tensor]:
    """x, or zeros if any entry is NaN or infinite (the eigenvalue routines fail on those), and whether x was finite."""
    finite = x.detach().isfinite().all()
    return torch.where(finite, x, 0.0), finite


def _require_matrix(x: Tensor) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"an (N, D) matrix with at least one row and one column is needed, not {(*x.shape,)}")


def _require_order(order: float) -> None:
    if not order > 0 or math.isinf(order):
        raise ValueError(f"the order of a Renyi entropy is positive and finite, not {order}")
