"""What every request needs of the running service: the database, the listener, the cluster, the settings."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.attempts.hearing import Hearing
from service.attempts.inbox import Inbox
from service.auth.rate import RateLimiter
from service.cluster.jobs import RayJobs
from service.database.engine import Database
from service.database.notify import Listener
from service.events.feed import Feeds
from service.settings import Settings


@dataclass
class Context:
    """The parts of one running service."""

    settings: Settings
    database: Database
    listener: Listener
    jobs: RayJobs
    inbox: Inbox = field(init=False)
    """Workers' reports on their way into the database."""
    feeds: Feeds = field(init=False)
    """What followers of experiments are sent."""
    attempt_tokens: dict[int, bytes] = field(default_factory=dict)
    """Hashes of attempts' tokens seen before, so that a report needs no look-up."""
    closing: bool = False
    """The service is stopping: streams end themselves."""
    hearing: Hearing = field(default_factory=Hearing)
    """Since when workers' silence means something."""
    request_rates: RateLimiter = field(init=False)
    report_rates: RateLimiter = field(init=False)

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.database)
        self.feeds = Feeds(self.database, self.listener)
        self.request_rates = RateLimiter(self.settings.request_rate)
        self.report_rates = RateLimiter(self.settings.report_rate)


async def get_context(request: Request) -> Context:
    """The context of the application a request came to. A plain function would cost every request a thread."""
    context: Context = request.app.state.context
    return context


CurrentContext = Annotated[Context, Depends(get_context)]
