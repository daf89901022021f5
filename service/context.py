"""What all nouns share of the running service. The state of one noun (inbox, feeds) is on `app.state`."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.cluster.jobs import RayJobs
from service.database.engine import Database
from service.database.notify import Listener
from service.rate import RateLimiter
from service.reception import Reception
from service.settings import Settings
from service.spec_checks import SpecChecks


@dataclass
class Context:
    """The parts of one running service."""

    settings: Settings
    database: Database
    listener: Listener
    jobs: RayJobs
    closing: bool = False
    """The service is stopping: streams end themselves."""
    reception: Reception = field(default_factory=Reception)
    """Since when workers' silence means something."""
    spec_checks: SpecChecks = field(default_factory=SpecChecks)
    """Where specs are checked."""
    request_rates: RateLimiter = field(init=False)
    report_rates: RateLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.request_rates = RateLimiter(self.settings.request_rate)
        self.report_rates = RateLimiter(self.settings.report_rate)


async def get_context(request: Request) -> Context:
    """The context of the application a request came to. A plain function would cost every request a thread."""
    context: Context = request.app.state.context
    return context


CurrentContext = Annotated[Context, Depends(get_context)]
