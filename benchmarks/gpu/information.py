"""Part information: what H(R), I(R;Z) and the measurement behind adaptive weighting cost, as shares of the step time.

ResNet-18 at full width, batch 256: the same measurement as core_information_cost.py makes on a CPU.
"""

from core_information_cost import DEFAULT_CADENCE, adaptive_cost, information_cost

from gpu.settings import Record, Settings


def run(settings: Settings, record: Record) -> None:
    document = {
        "name": "information",
        "data": settings.data(),
        "model": settings.model("resnet18", 64),
        "objective": {"weighting": {"policy": "fixed", "alpha": 0.5}},
        "training": {"epochs": 100_000, "batch_size": 16 if settings.smoke else 256, "precision": settings.precision},
        "evaluation": {"every_epochs": 100_000},
    }
    pairs = 1 if settings.smoke else 10
    often = information_cost(document, device=settings.device, pairs=pairs, steps=DEFAULT_CADENCE)
    step_s = often.step_s
    record.put("step_ms_without", 1000 * step_s)
    record.put("share_at_every_step", often.share)
    record.put("replayed", often.replayed)
    seldom = information_cost(
        document, device=settings.device, pairs=pairs, steps=DEFAULT_CADENCE, cadence=DEFAULT_CADENCE
    )
    record.put(f"share_at_every_{DEFAULT_CADENCE}_steps", seldom.share)
    record.put("replayed", often.replayed and seldom.replayed)
    batches, seconds = adaptive_cost(document, device=settings.device, pairs=pairs)
    record.put("alpha_batch_in_steps", seconds / batches / step_s)
    record.put("alpha_share_of_an_epoch_of_200_steps", seconds / (200 * step_s))
