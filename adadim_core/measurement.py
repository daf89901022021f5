"""Measurements of a training step: made on the device without waiting for it, read when the host needs them.

Owns which quantities there are and how they get to the host. Does not own when they are measured or reported (trainer).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from adadim_core.information import BatchProducts, alignment, batch_products, information_quantities
from adadim_core.label_free import allows_lidar, balance, lidar, scatter
from adadim_core.objective import ObjectiveTerms


class Measurement:
    """The quantities of one batch on their way to the host.

    On a GPU, making one only queues work there: products of the batch are formed and copied, and the eigenvalues,
    for which the host would have to wait, are taken on the host from those copies.
    """

    def __init__(
        self, scalars: Mapping[str, Tensor], products: BatchProducts, scatters: tuple[Tensor, ...] = ()
    ) -> None:
        self._names = list(scalars)
        device = products.r.gram.device
        stacked = torch.stack([value.detach().double() for value in scalars.values()]) if scalars else torch.empty(0)
        self._scalars = stacked.to("cpu", non_blocking=True)
        self._products = products.map(lambda tensor: tensor.to("cpu", non_blocking=True))
        self._scatters = [tensor.to("cpu", non_blocking=True) for tensor in scatters]
        self._copied: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait until the device has done the work that is measured."""
        if self._copied is not None:
            self._copied.synchronize()

    @torch.no_grad()
    def values(self) -> dict[str, float]:
        """The quantities by metric name. Waits for the device if they are not ready yet."""
        self.wait()
        information = information_quantities(self._products)
        # What the loss itself computed comes last and stands: the same quantity in the loss's own precision.
        numbers = torch.stack(list(information.values())).tolist()
        values = dict(zip(information, numbers, strict=True)) | dict(
            zip(self._names, self._scalars.tolist(), strict=True)
        )
        values["balance"] = balance(values["h_r"], values["i_rz"])
        if self._scatters:
            values["lidar"] = lidar(*self._scatters)
        return values


@torch.no_grad()
def measure_representations(r1: Tensor, z1: Tensor, *, order: float, computed_in: torch.dtype) -> Measurement:
    """The information quantities of one view."""
    return Measurement({}, batch_products(r1, z1, order=order, computed_in=computed_in))


@torch.no_grad()
def measure_step(
    terms: ObjectiveTerms, r1: Tensor, z1: Tensor, z2: Tensor, *, order: float, computed_in: torch.dtype
) -> Measurement:
    """The losses of a step, quantities of its two views together, and the information quantities of the first view."""
    scalars = {
        "loss": terms.total,
        "loss_dimension": terms.dimension,
        "loss_sample": terms.sample,
        **terms.parts,
        "alignment": alignment(z1, z2),
    }
    if terms.information is not None:
        scalars["loss_mi"] = terms.information
    scatters = scatter(z1, z2) if allows_lidar(*z1.shape) else ()
    return Measurement(scalars, batch_products(r1, z1, order=order, computed_in=computed_in), scatters)
