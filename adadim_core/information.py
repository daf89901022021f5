"""Information quantities of a batch: effective rank, matrix-based entropy, I(R;Z), uniformity, alignment.

Owns the estimators. Does not own when they are measured or logged (trainer) or what follows from them (weighting).

Shapes: x holds N samples of D dimensions. Every function returns a scalar tensor in nats (ranks: a number), computes in
float32 at least (eigenvalues in float64), and returns NaN for any NaN or infinity in its input. Entropies of order 2,
uniformity and alignment do not make the host wait for a GPU; eigenvalues (ranks and other orders) do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adadim_core import rows
from adadim_core.precision import full_precision
from adadim_core.rows import unit_rows

# Orders this close to 1 are taken as 1: the general formula divides by 1 - order.
_VON_NEUMANN_BAND = 1e-6


@full_precision
def effective_rank(x: Tensor, *, center: bool = True, computed_in: torch.dtype | None = None) -> Tensor:
    """Effective rank exp(-sum p log p), p = singular values over their sum (Roy & Vetterli 2007), in [1, min(N, D)].

    Singular values come from the eigenvalues of the smaller Gram matrix in float64; those below its rounding error
    (relative to the largest, about 2e-7 for 256), or no larger than those of the rounding errors of x itself, count as
    zero. A dimension that varies by no more than rounding counts as constant, and a constant batch has rank 1.

    Args:
        x: the batch.
        center: subtract the mean of each dimension first.
        computed_in: the dtype in which x was computed, as under autocast, and to which it was rounded; None: that of x,
            at least float32.

    Raises:
        ValueError: x is not a matrix with at least one row and column.
    """
    _require_matrix(x)
    n, d = x.shape
    precision = computed_in or x.dtype
    if center:
        x, _, error_D = _centered(x, precision)
    else:
        x = _scaled(x)
        error_D = rows.ERROR * rows.rounding(x, precision)
    gram, finite = _zero_unless_finite(x @ x.T if n <= d else x.T @ x)
    return _effective_rank(gram, _floor(n, error_D), finite)


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
    n, d = x.shape
    if n <= d:
        return _entropy(_kernel(x, center, order), n, order)
    # The smaller Gram matrix of the same rows has the same eigenvalues. Rows without a direction share one more column.
    unit, zero = _directions(x, center, order)
    a = torch.cat([unit, zero[:, None].to(unit.dtype)], dim=1)
    return _entropy(a.T @ a, n, order)


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
    return _shared_information(_kernel(r, center, order), _kernel(z, center, order), order)


@torch.no_grad()
def batch_products(
    r: Tensor, z: Tensor, *, order: float = 2.0, computed_in: torch.dtype | None = None
) -> "BatchProducts":
    """The input of `information_quantities`: a few (N, N) matrices, cheap to copy to the host.

    Args:
        r: (N, D_r), row i the representation of sample i.
        z: (N, D_z), row i the embedding of the same sample.
        order: of I(R;Z).
        computed_in: the dtype r and z were computed in, as for `effective_rank`.
    """
    r_products, z_products = (_products(x, order, computed_in or x.dtype) for x in (r, z))
    return BatchProducts(r_products, z_products, order)


@torch.no_grad()
def information_quantities(batch: "BatchProducts") -> dict[str, Tensor]:
    """Every information quantity that is logged for a batch, by metric name, with shared work done once.

    They equal those of `matrix_entropy`, `mutual_information`, `effective_rank` and `uniformity`.

    Args:
        batch: from `batch_products`, on any device. Eigenvalues on a GPU make the host wait for it.
    """
    order = batch.order
    centered_r, centered_z = batch.r.kernel(center=True), batch.z.kernel(center=True)
    return {
        "h_r": _entropy(centered_r, len(centered_r), 2.0),
        "i_rz": _shared_information(centered_r, centered_z, order),
        "erank_r": batch.r.effective_rank(),
        "erank_z": batch.z.effective_rank(),
        "loss_mi": _shared_information(batch.r.kernel(center=False), batch.z.kernel(center=False), order),
        "uniformity": _log_mean_potential(torch.where(batch.z.finite, batch.z.cosines, math.nan), 2.0),
    }


@dataclass(frozen=True)
class BatchProducts:
    """The inner products of the rows of R and of Z."""

    r: "RowProducts"
    z: "RowProducts"
    order: float
    """Of I(R;Z)."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "BatchProducts":
        """The same with the function applied to every tensor."""
        r, z = (RowProducts(*map(function, vars(products).values())) for products in (self.r, self.z))
        return BatchProducts(r, z, self.order)


@dataclass(frozen=True)
class RowProducts:
    """The inner products of a batch's rows, with and without its mean.

    Each comes from a matrix product of its own: one could be derived from the other by adding the mean back, but a row
    much shorter than the mean would be lost to rounding.
    """

    gram: Tensor
    """Of centred rows, in float64."""
    spectrum: Tensor
    """Gram matrix of the centred batch over its smaller side: its eigenvalues are the squared singular values."""
    floor: Tensor
    """Eigenvalues of the spectrum up to this are rounding."""
    cosines: Tensor
    """Of rows scaled to length one, 0 with a zero row."""
    zero: Tensor
    """Whether a row is zero."""
    centered_zero: Tensor
    """Whether a centred row is zero up to rounding."""
    finite: Tensor
    """Whether all entries were finite."""

    def kernel(self, *, center: bool) -> Tensor:
        """K of `matrix_entropy`; NaN where the batch was not finite."""
        if center:
            kernel_NN = _with_shared_direction(_cosines(self.gram, self.centered_zero), self.centered_zero)
        else:
            kernel_NN = _with_shared_direction(self.cosines.double(), self.zero)
        return torch.where(self.finite, kernel_NN, math.nan)

    def effective_rank(self) -> Tensor:
        return _effective_rank(self.spectrum, self.floor, self.finite)


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
    u_ND, _ = unit_rows(x)
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
    return (unit_rows(z1)[0] - unit_rows(z2)[0]).square().sum(dim=1).mean()


def _kernel(x: Tensor, center: bool, order: float) -> Tensor:
    """(N, N) K of `matrix_entropy`."""
    if center:
        x, zero, _ = _centered(x, x.dtype)
        return _with_shared_direction(_cosines(x @ x.T, zero), zero)
    unit, zero = _directions(x, center, order)
    return _with_shared_direction(unit @ unit.T, zero)


def _directions(x: Tensor, center: bool, order: float) -> tuple[Tensor, Tensor]:
    """Rows scaled to length one, and whether a row is zero.

    In float64 where eigenvalues follow: low orders magnify rounding.
    """
    if center:
        x, zero, _ = _centered(x, x.dtype)
        return unit_rows(x, zero)
    return unit_rows(x if order == 2 else x.double())


def _with_shared_direction(cosines: Tensor, zero: Tensor) -> Tensor:
    """A kernel in which rows without a direction share one of their own.

    So a constant batch, all zero once centred, has a kernel of ones (entropy 0) rather than of zeros or of amplified
    rounding errors.
    """
    return cosines + (zero[:, None] & zero)


def _products(x: Tensor, order: float, computed_in: torch.dtype) -> RowProducts:
    _require_matrix(x)
    n, d = x.shape
    unit, zero = _directions(x, False, order)
    x, centered_zero, error_D = _centered(x, computed_in)
    gram, finite = _zero_unless_finite(x @ x.T)
    return RowProducts(
        gram=gram,
        spectrum=gram if n <= d else torch.where(finite, x.T @ x, 0.0),
        floor=_floor(n, error_D),
        cosines=unit @ unit.T,
        zero=zero,
        centered_zero=centered_zero,
        finite=finite,
    )


def _centered(x: Tensor, computed_in: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x in float64 with the mean of each column subtracted: `rows.center` at a scale where squares are finite."""
    return rows.center(_scaled(x), computed_in)


def _scaled(x: Tensor) -> Tensor:
    """x in float64 with its largest entry at one, so that no square overflows."""
    x = x.double()
    scale = x.detach().abs().amax()
    return x / torch.where(scale > 0, scale, 1.0)


def _floor(n: int, error: Tensor) -> Tensor:
    """The largest squared singular value of n rows of independent errors (Bandeira & van Handel 2016).

    Args:
        n: rows.
        error: (D,) the size of the errors in each column.
    """
    return (math.sqrt(n) * error.amax() + error.square().sum().sqrt()).square()


def _cosines(gram: Tensor, zero: Tensor) -> Tensor:
    """Inner products of the rows scaled to length one; 0 with zero rows."""
    inverse_N = torch.where(zero, 0.0, torch.where(zero, 1.0, gram.diagonal()).rsqrt())
    return gram * inverse_N[:, None] * inverse_N


def _effective_rank(gram: Tensor, floor: Tensor, finite: Tensor) -> Tensor:
    eigenvalues = torch.linalg.eigvalsh(gram)
    kept = eigenvalues > torch.maximum(floor, eigenvalues[-1] * (len(eigenvalues) * torch.finfo(torch.float64).eps))
    singular = torch.where(kept, eigenvalues, 1.0).sqrt() * kept
    total = singular.sum()
    p = singular / torch.where(total > 0, total, 1.0)
    entropy = -(p * torch.where(kept, p, 1.0).log()).sum()
    return torch.where(finite, entropy.exp(), math.nan)


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
