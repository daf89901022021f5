"""What this process counts, for Prometheus. Owns the registry and every metric in it; others only raise them.

What is true of the whole installation, whichever replica is asked, /metrics reads from the database instead.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

REQUESTS = Counter("adadim_http_requests", "HTTP requests.", ["method", "route", "status"], registry=REGISTRY)
LATENCY = Histogram(
    "adadim_http_request_seconds", "Time to the first byte of the answer.", ["method", "route"], registry=REGISTRY
)
DENIED = Counter("adadim_denied_requests", "Requests turned away.", ["status", "reason"], registry=REGISTRY)
REVOKED = Counter(
    "adadim_requests_revoked", "Open requests ended because their token was revoked or expired.", registry=REGISTRY
)
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
REPORTS = Counter("adadim_reports", "Workers' reports committed here.", registry=REGISTRY)
POINTS = Counter("adadim_points", "Points committed here.", registry=REGISTRY)
REPORTS_REFUSED = Counter("adadim_reports_refused", "Reports answered 429 because too much waits.", registry=REGISTRY)
REPORTS_WAITING = Gauge("adadim_reports_waiting", "Reports taken and not answered yet.", registry=REGISTRY)
REPORT_BYTES_WAITING = Gauge("adadim_report_bytes_waiting", "Bytes of these reports.", registry=REGISTRY)
SPEC_CHECK_SECONDS = Counter("adadim_spec_check_seconds", "Processor time of checking specs.", registry=REGISTRY)
SPEC_CHECKS_REFUSED = Counter(
    "adadim_spec_checks_refused", "Specs answered 429 because their owner has too many.", registry=REGISTRY
)
POINTS_UNMERGED = Gauge("adadim_points_unmerged", "Points in the database not in chunks yet.", registry=REGISTRY)
PLACES_TAKEN = Gauge("adadim_places_taken", "Work under way that is bounded at once.", ["what"], registry=REGISTRY)
PLACES_REFUSED = Counter(
    "adadim_places_refused",
    "Requests answered 429 because too much of their kind is under way: of their owner, or of all.",
    ["what", "whose"],
    registry=REGISTRY,
)
FOLLOWERS = Gauge("adadim_followers", "Open live streams.", registry=REGISTRY)
CLIENTS_DISCONNECTED = Counter(
    "adadim_clients_disconnected", "Live streams ended because the client read nothing.", registry=REGISTRY
)
