"""Prometheus metrics of the dispatcher, counted in this process. What the database knows, /metrics asks it."""

from prometheus_client import Counter, Histogram

from service.health.http_metrics import REGISTRY

DISPATCH_SECONDS = Histogram(
    "adadim_dispatch_seconds",
    "Time from a queued experiment's turn to Ray having its job.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
LEASE_LOSSES = Counter(
    "adadim_lease_losses",
    "Leases this replica held and lost: it was too slow, or was taken for dead.",
    registry=REGISTRY,
)
