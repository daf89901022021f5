"""How much a batch of representations holds: effective rank, matrix-based entropy, I(R;Z), uniformity, alignment.

Owns the estimators. Does not own when they are measured or logged (trainer) or what follows from them (weighting).

Shapes: x holds N samples of D dimensions. Every function returns a scalar tensor in nats (ranks: a number),
computes in float32 at least (eigenvalues in float64), and answers NaN to any NaN or infinity in its input. Entropies
of order 2, uniformity and alignment do not make the host wait for a GPU; eigenvalues (ranks and other orders) do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

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
    rounding of its dtype (float32 at least) counts as constant, and a constant batch has rank 1.

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
    return _effective_rank(gram, constant, finite)


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
    return _shared_information(a @ a.T, b @ b.T, order)


@torch.no_grad()
def batch_products(r: Tensor, z: Tensor) -> "BatchProducts":
    """What `information_quantities` needs of a batch, at most (N, N) numbers each: little to bring to the host.

    Args:
        r: (N, D_r), row i the representation of sample i.
        z: (N, D_z), row i the embedding of the same sample.
    """
    return BatchProducts(_products(r), _products(z))


@torch.no_grad()
def information_quantities(batch: "BatchProducts", *, order: float = 2.0) -> dict[str, Tensor]:
    """Every information quantity that is logged of a batch, by metric name, with shared work done once.

    As `matrix_entropy`, `mutual_information`, `effective_rank` and `uniformity` give them, in float64.

    Args:
        batch: from `batch_products`, on any device. Eigenvalues on a GPU make the host wait for it.
        order: of I(R;Z).
    """
    centered_r, centered_z = batch.r.kernel(center=True), batch.z.kernel(center=True)
    return {
        "h_r": _entropy(centered_r, len(centered_r), 2.0),
        "i_rz": _shared_information(centered_r, centered_z, order),
        "erank_r": batch.r.effective_rank(),
        "erank_z": batch.z.effective_rank(),
        "loss_mi": _shared_information(batch.r.kernel(center=False), batch.z.kernel(center=False), order),
        "uniformity": _log_mean_potential(batch.z.cosines(), 2.0),
    }


@dataclass(frozen=True)
class BatchProducts:
    """The inner products of the rows of R and of Z."""

    r: "RowProducts"
    z: "RowProducts"

    def map(self, function: Callable[[Tensor], Tensor]) -> "BatchProducts":
        """The same with the function applied to every tensor."""
        return BatchProducts(*(RowProducts(*map(function, vars(rows).values())) for rows in (self.r, self.z)))


@dataclass(frozen=True)
class RowProducts:
    """The inner products of a batch's rows, with and without its mean, from one product of matrices in float64."""

    gram: Tensor
    """Of centred rows."""
    spectrum: Tensor
    """Gram matrix of the centred batch over its smaller side: its eigenvalues are the squared singular values."""
    with_mean: Tensor
    """Of each centred row and the mean."""
    mean_squared: Tensor
    """Of the mean and itself."""
    zero: Tensor
    """Whether a row is zero."""
    centered_zero: Tensor
    """Whether a centred row is zero up to rounding."""
    constant: Tensor
    """Whether the batch varies by no more than rounding."""
    finite: Tensor
    """Whether all entries were finite."""

    def kernel(self, *, center: bool) -> Tensor:
        """K of `matrix_entropy`; NaN where the batch was not finite."""
        zero = self.centered_zero if center else self.zero
        kernel_NN = _cosines(self.gram if center else self._uncentered(), zero)
        # Rows without a direction share one of their own.
        kernel_NN = kernel_NN + (zero[:, None] & zero)
        return torch.where(self.finite, kernel_NN, math.nan)

    def cosines(self) -> Tensor:
        """Cosine similarities of the rows, 0 with a zero row; NaN where the batch was not finite."""
        return torch.where(self.finite, _cosines(self._uncentered(), self.zero), math.nan)

    def effective_rank(self) -> Tensor:
        return _effective_rank(self.spectrum, self.constant, self.finite)

    def _uncentered(self) -> Tensor:
        return self.gram + self.with_mean[:, None] + self.with_mean + self.mean_squared


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
    return _log_mean_potential(u_ND @ u_ND.T, t)


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


def _products(x: Tensor) -> RowProducts:
    _require_matrix(x)
    n, d = x.shape
    rounding = _ROUNDING * torch.finfo(x.dtype).eps
    x, finite = _zero_unless_finite(x.double())
    magnitude_N = x.abs().amax(dim=1)
    scale = magnitude_N.amax()
    scale = torch.where(scale > 0, scale, 1.0)
    x, magnitude_N = x / scale, magnitude_N / scale
    mean_D = x.mean(dim=0)
    x = x - mean_D
    gram = x @ x.T
    spectrum = gram if n <= d else x.T @ x
    return RowProducts(
        gram=gram,
        spectrum=spectrum,
        with_mean=x @ mean_D,
        mean_squared=mean_D @ mean_D,
        zero=magnitude_N == 0,
        centered_zero=x.abs().amax(dim=1) <= rounding * (magnitude_N + mean_D.abs().amax()),
        constant=spectrum.diagonal().sum() <= n * d * rounding**2,
        finite=finite,
    )


def _cosines(gram: Tensor, zero: Tensor) -> Tensor:
    """Inner products of the rows at length one; 0 with rows that have none."""
    inverse_N = torch.where(zero, 0.0, torch.where(zero, 1.0, gram.diagonal()).rsqrt())
    return gram * inverse_N[:, None] * inverse_N


def _effective_rank(gram: Tensor, constant: Tensor, finite: Tensor) -> Tensor:
    eigenvalues = torch.linalg.eigvalsh(gram)
    kept = eigenvalues > eigenvalues[-1] * (len(eigenvalues) * torch.finfo(torch.float64).eps)
    singular = torch.where(kept, eigenvalues, 1.0).sqrt() * kept
    total = singular.sum()
    p = singular / torch.where(total > 0, total, 1.0)
    entropy = -(p * torch.where(kept, p, 1.0).log()).sum()
    rank = torch.where(constant, 1.0, entropy.exp())
    return torch.where(finite, rank, math.nan)


def _shared_information(k_r: Tensor, k_z: Tensor, order: float) -> Tensor:
    n = len(k_r)
    return _entropy(k_r, n, order) + _entropy(k_z, n, order) - _entropy(k_r * k_z, n, order)


def _log_mean_potential(cosines: Tensor, t: float) -> Tensor:
    n = len(cosines)
    exponents_NN = (2 * t * (cosines - 1)).fill_diagonal_(-math.inf)
    return exponents_NN.flatten().logsumexp(dim=0) - math.log(n * (n - 1))


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
