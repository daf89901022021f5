"""What service tests are made of: a Ray that can misbehave, a service on a real port, and patient waiting."""

import asyncio
import contextlib
import inspect
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import uvicorn
from fastapi import FastAPI
from httpx_sse import ServerSentEvent, aconnect_sse

from adadim_core.spec import ExperimentSpec, plan_trials, validate_spec
from adadim_core.spec.attempt_proof import proof, token_digest
from adadim_core.spec.report import Report
from service.attempts.body import Delivery
from service.attempts.inbox import Inbox
from service.attempts.receiving import receive
from service.attempts.service import Claim, authenticate, take_over
from service.auth import repository as tokens
from service.cluster.jobs import RayJobs
from service.context import Context
from service.database.engine import Database
from service.database.notify import Listener
from service.database.tables import Attempt, Experiment
from service.errors import ServiceError
from service.experiments import service as experiments
from service.http_limits import BoundedHead
from service.secret import hash_token, new_token
from service.settings import Settings
from service.streams.feed import Feeds

RAY_TOKEN = "ray-secret"


async def until(condition: Callable[[], Any], what: str = "", *, seconds: float = 60.0) -> Any:
    """Wait until the condition gives something true, and return that. It may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds} s for {what or condition}"
        await asyncio.sleep(0.01)


# -- Ray ----------------------------------------------------------------------------------------------------------


@dataclass
class RayJob:
    """A job as the stand-in keeps it."""

    submission_id: str
    entrypoint: str
    environment: dict[str, str]
    status: str = "RUNNING"
    message: str = "Job is currently running."
    log: str = ""
    stops: int = 0
    exit_code: int | None = None


def take_over_by_http(url: str, job: "RayJob") -> tuple[str, str]:
    """Be the driver of a job and take its attempt over: where its reports go, and the token they carry."""
    attempt, code, token = job.environment["ADADIM_ATTEMPT_ID"], job.environment["ADADIM_ATTEMPT_CODE"], new_token()
    sha256, path = token_digest(token), f"{url}/api/v1/attempts/{attempt}"
    answer = httpx.put(
        f"{path}/token",
        json={"sha256": sha256, "proof": proof(RAY_TOKEN, attempt, code, sha256)},
        headers={"Authorization": f"Bearer {code}"}, trust_env=False, timeout=60,
    )  # fmt: skip
    answer.raise_for_status()
    return f"{path}/reports", token


@dataclass
class RayStandIn:
    """Ray's Jobs REST API over real HTTP, behaving as Ray 2.60 does, with a job that is only a record."""

    jobs: dict[str, RayJob] = field(default_factory=dict)
    arrived: list[tuple[str, str]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Those that were answered."""
    lose_answers: int = 0
    """So many submissions are accepted without an answer."""
    stubborn: bool = False
    """Jobs do not end when told to stop."""
    first_status: str = "RUNNING"
    gate: threading.Event = field(default_factory=threading.Event)
    """While it is not set, no request is answered."""
    stall_logs: bool = False
    """A log never comes."""
    cut_logs: bool = False
    """A stream of a log breaks off after its first piece, as when the head is replaced."""
    refuses: str | None = None
    """How a node's agent answers every submission, if it does not take them: the last line of its traceback."""
    broken: bool = False
    """Every request is answered with HTTP 500, as behind a head that is going down."""
    _server: ThreadingHTTPServer | None = None
    _port: int = 0

    def __post_init__(self) -> None:
        self.gate.set()
        self.come_back()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def job(self, submission_id: str) -> RayJob:
        return self.jobs[submission_id]

    def job_of(self, experiment_id: int) -> RayJob | None:
        """The job of an experiment's first attempt, once it is there."""
        return next((job for name, job in list(self.jobs.items()) if name.endswith(f"-{experiment_id}-1")), None)

    @property
    def only_job(self) -> RayJob:
        (job,) = self.jobs.values()
        return job

    @property
    def submissions(self) -> int:
        return sum(request == ("POST", "/api/jobs/") for request in list(self.requests))

    def end(self, job: RayJob, status: str = "FAILED", message: str = "the driver died") -> None:
        job.status, job.message = status, message

    def go_away(self) -> None:
        """Refuse connections, as when the head is gone. Jobs are still there when it comes back."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def come_back(self) -> None:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in._answer(self, "GET")

            def do_POST(self) -> None:
                stand_in._answer(self, "POST")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.arrived.append((method, request.path))
        self.gate.wait(30)
        self.requests.append((method, request.path))
        authorized = request.headers.get("Authorization") == f"Bearer {RAY_TOKEN}"
        if authorized and not self.broken and request.path.startswith("/api/v0/logs/"):
            self._send_log(request)
            return
        if not authorized:
            answer: tuple[int, Any] | None = (401, "Unauthorized: Missing authentication token")
        elif self.broken:
            answer = (500, "Traceback (most recent call last):\nray.exceptions.RaySystemError: GCS is down")
        else:
            answer = self._route(method, request.path.strip("/").split("/")[1:], body)
        if answer is None:
            request.connection.close()
            return
        status, content = answer
        encoded = (content if isinstance(content, str) else json.dumps(content)).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(encoded)))
        request.end_headers()
        request.wfile.write(encoded)

    def _route(self, method: str, path: list[str], body: bytes) -> tuple[int, Any] | None:
        match method, path:
            case "GET", ["version"]:
                return 200, {"version": "4", "ray_version": "2.60.0", "session_name": "session_1"}
            case "POST", ["jobs"]:
                return self._submit(json.loads(body))
            case _, ["jobs", submission_id, *_] if submission_id not in self.jobs:
                return 404, f"Job {submission_id} does not exist"
            case "GET", ["jobs"]:
                return 200, [
                    {"submission_id": job.submission_id, "status": job.status, "message": job.message}
                    for job in list(self.jobs.values())
                ]
            case "GET", ["jobs", submission_id]:
                job = self.jobs[submission_id]
                return 200, {
                    "submission_id": submission_id,
                    "status": job.status,
                    "message": job.message,
                    "driver_node_id": "abc",
                    "driver_exit_code": job.exit_code,
                }
            case "POST", ["jobs", submission_id, "stop"]:
                job = self.jobs[submission_id]
                job.stops += 1
                stopped = job.status in ("PENDING", "RUNNING")
                if stopped and not self.stubborn:
                    self.end(job, "STOPPED", "Job was intentionally stopped.")
                return 200, {"stopped": stopped}
            case _:
                return 404, "404: Not Found"

    def _send_log(self, request: BaseHTTPRequestHandler) -> None:
        """A driver's log file, which `stream` follows for ever, as Ray does even after the job's end."""
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        name = query["filename"][0]
        job = self.jobs.get(name.removeprefix("job-driver-").removesuffix(".log"))
        if query["node_id"] != ["abc"] or query["lines"] != ["-1"] or job is None or not job.log:
            request.send_error(500, "A file is not found")
            return
        request.send_response(200)
        request.end_headers()  # no length: the end of the connection is the end of the log
        request.close_connection = True
        server, sent = self._server, 0
        while self.stall_logs and self._server is server:
            time.sleep(0.01)
        while self._server is server:
            log = job.log.encode()
            if len(log) > sent:
                request.wfile.write(log[sent:])
                request.wfile.flush()
                sent = len(log)
            if url.path.endswith("/file") or self.cut_logs:
                return
            time.sleep(0.01)

    def _submit(self, body: dict[str, Any]) -> tuple[int, Any] | None:
        submission_id = body["submission_id"]
        if submission_id in self.jobs:
            return 500, (
                "Traceback (most recent call last):\n"
                f"ValueError: Job with submission_id {submission_id} already exists. Please use a different one."
            )
        if self.refuses is not None:  # as the head passes it on
            return 500, (
                'Traceback (most recent call last):\n  File "job_head.py", line 421, in submit_job\n'
                "RuntimeError: Request failed with status code 400: Traceback (most recent call last):\n"
                f"{self.refuses}\n.\n"
            )
        environment = body["runtime_env"]["env_vars"]
        self.jobs[submission_id] = RayJob(submission_id, body["entrypoint"], environment, self.first_status)
        if self.lose_answers:
            self.lose_answers -= 1
            return None
        return 200, {"job_id": submission_id, "submission_id": submission_id}


# -- the service --------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A service that answers on a real port."""

    url: str
    app: FastAPI
    context: Context
    http: httpx.AsyncClient
    """With a submitter's token."""
    token: str

    @property
    def inbox(self) -> Inbox:
        found: Inbox = self.app.state.reporting.inbox
        return found

    @property
    def feeds(self) -> Feeds:
        found: Feeds = self.app.state.feeds
        return found

    async def submit(self, spec: str = "name: test", **headers: str) -> dict[str, Any]:
        response = await self.http.post("/api/v1/experiments", content=spec, headers=headers)
        assert response.status_code == 201, response.text
        experiment: dict[str, Any] = response.json()
        return experiment

    async def experiment(self, experiment_id: int) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"/api/v1/experiments/{experiment_id}")).json()
        return found


@contextlib.asynccontextmanager
async def serving(app: FastAPI, *, lifespan: bool) -> AsyncIterator[str]:
    """Serve an application on a free port of loopback; gives its URL."""

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            http=BoundedHead,
            lifespan="on" if lifespan else "off",
            log_level="error",
            timeout_graceful_shutdown=1,
        )
        server = Server(config)
        task = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started or task.done(), "uvicorn to start")
            if task.done():
                await task
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def add_token(database: Database, role: str, name: str | None = None, **values: Any) -> str:
    """A token of that role."""
    token = new_token()
    async with database.transaction() as session:
        await tokens.add(session, name=name or role, role=role, token_hash=hash_token(token), **values)
    return token


def client(url: str, token: str | None, **options: Any) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # verify=False: loading certificates takes longer than most tests
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60.0, trust_env=False, verify=False, **options)


async def sse(
    http: httpx.AsyncClient, experiment_id: int, *, count: int, after: int | None = None, resume: int | None = None
) -> list[ServerSentEvent]:
    """The next events of an experiment, comments and pings left out."""
    headers = {} if resume is None else {"Last-Event-ID": str(resume)}
    params = {} if after is None else {"after": after}
    found: list[ServerSentEvent] = []
    url = f"/api/v1/experiments/{experiment_id}/events"
    async with asyncio.timeout(60), aconnect_sse(http, "GET", url, headers=headers, params=params) as source:
        assert source.response.status_code == 200, await source.response.aread()
        async for event in source.aiter_sse():
            if event.data:
                found.append(event)
            if len(found) == count:
                break
    return found


# -- parts without HTTP -------------------------------------------------------------------------------------------


def make_settings(tmp_path: Path, **values: Any) -> Settings:
    return Settings(state_dir=tmp_path / "state", **values)


@contextlib.asynccontextmanager
async def parts(
    database_url: str, tmp_path: Path, ray: RayStandIn | None = None, **values: Any
) -> AsyncIterator[Context]:
    """A context without the application: what the dispatcher and the endpoints work on."""
    database = Database(database_url)
    listener = Listener(database_url)
    listener.start()
    jobs = RayJobs()
    if ray is not None:
        await jobs.connect(ray.address, RAY_TOKEN)
    try:
        yield Context(make_settings(tmp_path, **values), database, listener, jobs)
    finally:
        await jobs.close()
        await listener.stop()
        await database.close()


def sweep(trials: int = 3, **fields: Any) -> ExperimentSpec:
    """A valid sweep of so many trials."""
    search = {"trials": trials, "space": {"training.lr": {"uniform": [0.1, 0.5]}}}
    return validate_spec({"name": "test", "search": search, **fields})


async def queue(context: Context, spec: ExperimentSpec | None = None) -> int:
    """Submit an experiment; its number."""
    spec = spec or sweep()
    submission = experiments.Submission(spec, "test", plan_trials(spec))
    experiment = await experiments.submit(context.database, submission, owner="someone", idempotency_key=None)
    return experiment.id


async def load(context: Context, experiment_id: int) -> Experiment:
    async with context.database.transaction() as session:
        return await experiments.find(session, experiment_id)


async def last_attempt(context: Context, experiment_id: int) -> Attempt | None:
    from service.attempts import repository as attempts

    async with context.database.transaction() as session:
        attempt = await attempts.current(session, experiment_id)
        if attempt is not None:
            await session.refresh(attempt, ["log"])
        return attempt


@dataclass
class Worker:
    """Reports as the worker of a job does, straight to the service's function."""

    context: Context
    attempt_id: int
    code: str
    claimed: bool = False

    @property
    def token(self) -> str:
        """Its own; the same for all who are the worker of one job."""
        return f"made of {self.code}"

    @classmethod
    def of(cls, context: Context, job: RayJob) -> "Worker":
        return cls(context, int(job.environment["ADADIM_ATTEMPT_ID"]), job.environment["ADADIM_ATTEMPT_CODE"])

    async def report(self, **fields: Any) -> str:
        """Deliver one report, the first after the attempt is taken over; the directive that came back."""
        if not self.claimed:
            sha256 = token_digest(self.token)
            claim = Claim(self.attempt_id, self.code, sha256, proof(RAY_TOKEN, str(self.attempt_id), self.code, sha256))
            async with self.context.database.transaction() as session:
                if (refused := await take_over(session, claim, RAY_TOKEN)) is not None:
                    raise refused
            self.claimed = True
        async with self.context.database.transaction() as session:
            await authenticate(session, self.attempt_id, self.token)
            delivery = Delivery.of(Report.model_validate(fields))
            (reply,) = await receive(session, self.attempt_id, [delivery])
        if isinstance(reply, ServiceError):
            raise reply
        return reply.directive


def points(
    trial: int, steps: list[int], values: list[Any], metric: str = "h_r", *, start: float = 1000.0
) -> dict[str, Any]:
    """A series as a worker reports it."""
    return {
        "trial": trial,
        "steps": steps,
        "epochs": [float(k) for k in range(len(steps))],
        "times": [start + k for k in range(len(steps))],
        "values": {metric: values},
    }


Factory = Callable[..., Awaitable[Any]]
