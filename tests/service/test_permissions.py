"""The permission matrix, made from the application's own routes: every role against every route, nothing left out.

What a route asks for is read off its dependencies. A route that asks for nothing must be listed as public here.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from service_harness import Running, add_token, client
from starlette.routing import Mount

from service.app import create_app
from service.attempts import repository as attempts
from service.attempts.dependencies import authenticated_attempt, job_of_attempt
from service.auth import dependencies as auth
from service.experiments.dependencies import owner
from service.secret import hash_token, new_token
from service.settings import Settings
from service.telemetry.counters import DENIED

Route = tuple[str, str]

PUBLIC: set[Route] = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/"),
    # The dashboard's empty page, with and without the last slash: what it shows it reads from the API.
    ("GET", "/experiments"),
    ("GET", "/experiments/"),
    ("GET", "/experiments/{experiment_id}"),
    ("GET", "/experiments/{experiment_id}/"),
    ("GET", "/experiments/{experiment_id}/trials/{number}"),
    ("GET", "/new"),
    ("GET", "/diff"),
    ("GET", "/static"),
    ("GET", "/api/v1/spec/schema"),
    ("GET", "/api/v1/identity"),  # says nothing that is of use without the token
    ("POST", "/api/v1/session"),  # takes a token in its body
    ("DELETE", "/api/v1/session"),  # ends the caller's own session, if there is one
}
RULES = {
    auth.viewer: "viewer", auth.submitter: "submitter", auth.admin: "admin", owner: "owner",
    authenticated_attempt: "attempt", job_of_attempt: "attempt",
}  # fmt: skip

CALLERS = ("nobody", "attempt", "viewer", "other submitter", "owner", "admin")
ALLOWED = {
    "public": set(CALLERS),
    "viewer": {"viewer", "other submitter", "owner", "admin"},
    "submitter": {"other submitter", "owner", "admin"},
    "owner": {"owner", "admin"},
    "admin": {"admin"},
    "attempt": {"attempt"},
}


def _calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def rules() -> dict[Route, str | None]:
    """What every route asks for; None if it asks for nothing."""
    app = create_app(Settings(state_dir="/nowhere"), "http://127.0.0.1:1")
    found: dict[Route, str | None] = {}
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        asked = {RULES[call] for call in _calls(dependant) if call in RULES} if dependant is not None else set()
        if "owner" in asked:
            asked -= {"submitter"}  # which is how the owner is recognised
        assert len(asked) <= 1, f"{route.path} asks for {asked}"
        for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}:
            found[method, route.path] = next(iter(asked), None)
    for mount in app.routes:
        if isinstance(mount, Mount):
            found["GET", mount.path] = None
    return found


ROUTES = rules()


def test_every_route_has_a_rule_or_is_public() -> None:
    without = {route for route, rule in ROUTES.items() if rule is None}
    assert without - PUBLIC == set(), "give these a dependency of service/auth, or list them as public"
    assert PUBLIC - without == set(), "these are not public or not there"


def test_the_rules_are_of_the_right_kind() -> None:
    """Reading takes a token at least, writing more, and whatever changes an experiment its owner."""
    for (method, path), rule in ROUTES.items():
        if (method, path) in PUBLIC or rule == "attempt":
            continue
        if method in ("GET", "HEAD"):
            assert rule in ("viewer", "admin"), (method, path)
        elif path.endswith("/clone"):  # reads one experiment and submits another
            assert rule == "submitter", (method, path)
        elif "{experiment_id}" in path and not path.endswith("/clone"):  # which leaves it as it is
            assert rule == "owner", (method, path)
        else:
            assert rule in ("submitter", "owner", "admin"), (method, path)
        if "token" in path:
            assert rule == "admin", (method, path)


def denials() -> float:
    return sum(s.value for metric in DENIED.collect() for s in metric.samples if s.name.endswith("_total"))


async def _ask(http: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    """The answer's head, and its body unless it is a stream that may never end."""
    request = http.build_request(method, path, json=None if method == "GET" else {})
    response = await http.send(request, stream=True)
    if response.is_error:
        await response.aread()
    await response.aclose()
    return response


async def _address(service: Running, path: str, attempt_token: str) -> str:
    """The route's path with an experiment of the service's submitter, or an attempt of it, put in."""
    values = {}
    if "{experiment_id}" in path or "{attempt_id}" in path:
        values["experiment_id"] = (await service.submit())["id"]
        async with service.context.database.transaction() as session:
            opened = await attempts.add(
                session,
                experiment_id=values["experiment_id"],
                number=1,
                submission_id=f"test-{values['experiment_id']}",
                code_hash=hash_token(attempt_token),
                token_hash=hash_token(attempt_token),
            )
        values["attempt_id"] = opened.id
    return re.sub(r"{(\w+)}", lambda match: str(values.get(match[1], 1)), path)


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES))
async def test_each_role_gets_what_the_route_says_and_no_more(service: Running, method: str, path: str) -> None:
    context = service.context
    rule = ROUTES[method, path] or "public"
    tokens: dict[str, str | None] = {
        "nobody": None,
        "viewer": await add_token(context.database, "viewer", "ada"),  # a viewer's name opens nothing
        "other submitter": await add_token(context.database, "submitter", "bert"),
        "owner": service.token,
        "admin": await add_token(context.database, "admin", "root"),
        "attempt": new_token(),
    }
    address = await _address(service, path, str(tokens["attempt"]))
    for caller in CALLERS:
        before = denials()
        async with client(service.url, tokens[caller]) as http:
            answer = await _ask(http, method, address)
        assert answer.status_code < 500
        if caller in ALLOWED[rule]:
            # The login takes its token from the body, and this one has none.
            assert answer.status_code not in (401, 403), (caller, answer.text)
            if method != "GET":  # what was asked for may be done now, and over
                address = await _address(service, path, str(tokens["attempt"]))
            continue
        recognised = caller not in ("nobody", "attempt") and rule != "attempt"
        assert answer.status_code == (403 if recognised else 401), (caller, answer.status_code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.json()["detail"]) > 20
        assert denials() == before + 1
