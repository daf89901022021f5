"""The API against its own document: schemathesis calls every operation with every role, with valid and invalid data.

No answer may be a 5xx, have a status, a header or a content type the document does not name, or a body outside its
schema. The examples are the same in every run.
"""

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from service_harness import Running, add_token, points
from test_reports import Reporter

from service.database.engine import Database

EXAMPLES = 6
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.mark.parametrize(
    "caller",
    ["submitter", *(pytest.param(role, marks=pytest.mark.slow) for role in ("nobody", "attempt", "viewer", "admin"))],
)
async def test_no_answer_is_outside_the_document(
    service: Running, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.context, "closing", True)  # streams end at once
    monkeypatch.setattr(Database, "ping", AsyncMock())  # one that takes two seconds is not ready
    reporter = await Reporter.open(service)
    await reporter.accepted(series=[points(0, [1, 2], [1.0, "NaN"])], trials=[{"number": 0, "state": "running"}])
    known = {"experiment_id": reporter.experiment_id, "attempt_id": reporter.attempt_id, "trial_id": 1}
    document = (await service.http.get("/openapi.json")).json()
    for method, path in [(m, p) for p, operations in document["paths"].items() for m in operations]:
        # ... but a service that stops is not ready.
        monkeypatch.setattr(service.context, "closing", path != "/readyz")
        # A new one each time: an admin may have revoked the last.
        token = {"nobody": None, "attempt": reporter.token}.get(caller) or (
            None if caller == "nobody" else await add_token(service.context.database, caller, "ada")
        )
        await asyncio.to_thread(_call, service.url, document, method, path, token, known)


def _call(url: str, document: dict[str, Any], method: str, path: str, token: str | None, known: dict[str, int]) -> None:
    """Some requests of one operation, half of them to things that exist."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document)))
    schema.config.base_url = url
    (operation,) = [
        found.ok()
        for found in schema.include(method=method.upper(), path=path).get_all_operations()
        if isinstance(found, Ok)
    ]
    cases = st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, exists=st.booleans())
    def check(case: Any, exists: bool) -> None:
        if exists:
            case.path_parameters |= {name: known[name] for name in case.path_parameters if name in known}
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

    check()
