"""Who may do what: tokens, roles, browser sessions."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from service_harness import Running, add_token, client
from sqlalchemy import select

from service.database.tables import Token

JSON = {"Content-Type": "application/json"}
WRITES = [("POST", "experiments"), ("POST", "experiments/1/cancel")]
READS = ["experiments", "experiments/1", "experiments/1/trials", "experiments/1/metrics", "experiments/1/events",
         "experiments/1/logs", "trials/1", "trials/1/metrics", "session"]  # fmt: skip


@pytest.mark.parametrize("path", [f"/api/v1/{path}" for path in READS] + ["/metrics"])
async def test_nothing_is_read_without_a_valid_token(service: Running, path: str) -> None:
    expired = await add_token(
        service.context.database, "admin", "old", expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )
    for token in (None, "adadim_wrong", service.token + "x", expired):
        async with client(service.url, token) as http:
            response = await http.get(path)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("scheme", ["Basic {}", "{}", "Bearer", "Bearer \u00e9"])
async def test_other_authorization_headers_are_401(service: Running, scheme: str) -> None:
    header = scheme.format(service.token).encode("latin-1")
    async with client(service.url, None) as http:
        assert (await http.get("/api/v1/session", headers={b"Authorization": header})).status_code == 401


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_viewer_reads_but_does_not_write(service: Running, method: str, path: str) -> None:
    async with client(service.url, await add_token(service.context.database, "viewer")) as http:
        assert (await http.get("/api/v1/experiments")).status_code == 200
        refused = await http.request(method, f"/api/v1/{path}", content="name: a")
    assert refused.status_code == 403
    assert "viewer may read" in refused.json()["detail"]
    assert (await service.http.get("/api/v1/experiments")).json()["items"] == []


@pytest.mark.parametrize("role", ["submitter", "admin"])
async def test_those_who_may_write_do(service: Running, role: str) -> None:
    async with client(service.url, await add_token(service.context.database, role, "carol")) as http:
        assert (await http.get("/api/v1/session")).json() == {"name": "carol", "role": role}
        assert (await http.post("/api/v1/experiments", content="name: a")).json()["owner"] == "carol"


async def test_a_browser_session_reads_and_writes_from_its_own_pages_only(service: Running) -> None:
    async with client(service.url, None) as browser:
        assert (await browser.get("/api/v1/session")).status_code == 401
        opened = await browser.post("/api/v1/session", json={"token": f"  {service.token}\n"})
        assert opened.status_code == 204
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "max-age=43200" in cookie
        assert service.token not in opened.headers["set-cookie"]
        assert (await browser.get("/api/v1/session")).json() == {"name": "ada", "role": "submitter"}

        async def write(**headers: str) -> int:
            return (await browser.post("/api/v1/experiments", content="name: a", headers=headers)).status_code

        assert await write() == 403
        assert await write(Origin="https://evil.example") == 403
        assert await write(Origin="null") == 403
        assert await write(Origin=service.url + ".evil.example") == 403
        assert await write(Origin=service.url) == 201
        # What the browser says itself counts more than an Origin, which a proxy may have made useless.
        assert await write(Origin="https://proxy.example", **{"Sec-Fetch-Site": "same-origin"}) == 201
        for site in ("cross-site", "same-site", "none", ""):
            assert await write(Origin=service.url, **{"Sec-Fetch-Site": site}) == 403

        assert (await browser.delete("/api/v1/session", headers={"Origin": "https://evil.example"})).status_code == 403
        signed_out = await browser.delete("/api/v1/session", headers={"Origin": service.url})
        assert signed_out.status_code == 204
        assert (await browser.get("/api/v1/session")).status_code == 401
        browser.cookies.update(opened.cookies)
        assert (await browser.get("/api/v1/session")).status_code == 401


async def test_another_site_cannot_sign_a_browser_in(service: Running) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        async with client(service.url, None) as browser:
            refused = await browser.post("/api/v1/session", json={"token": service.token}, headers=headers)
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers


async def test_the_cookie_is_secure_where_the_browser_came_by_tls(service: Running) -> None:
    headers = {"Origin": f"https://{service.url.partition('://')[2]}"}
    async with client(service.url, None) as browser:
        opened = await browser.post("/api/v1/session", json={"token": service.token}, headers=headers)
    assert "; secure" in opened.headers["set-cookie"].lower()


async def test_only_its_owner_or_an_admin_changes_an_experiment(service: Running) -> None:
    path = f"/api/v1/experiments/{(await service.submit())['id']}"
    for role, name, status in (("submitter", "bert", 403), ("viewer", "ada", 403), ("admin", "root", 200)):
        async with client(service.url, await add_token(service.context.database, role, name)) as http:
            assert (await http.get(path)).status_code == 200
            answer = await http.post(f"{path}/cancel")
            assert answer.status_code == status, (role, answer.text)
            if (role, status) == ("submitter", 403):
                assert "belongs to ada" in answer.json()["detail"]
                assert (await http.get(path)).json()["state"] == "queued"
                assert (await http.post("/api/v1/experiments/99/cancel")).status_code == 404
    another = await add_token(service.context.database, "submitter", "ada")  # a person's other token
    async with client(service.url, another) as http:
        assert (await http.post(f"{path}/cancel")).status_code == 200


@pytest.mark.parametrize("body", [{"token": "adadim_wrong"}, {"token": "\ud800"}, {"token": ""}, {"token": 1}, {}])
async def test_a_wrong_login_opens_nothing(service: Running, body: dict[str, str]) -> None:
    async with client(service.url, None) as browser:
        response = await browser.post("/api/v1/session", content=json.dumps(body), headers=JSON)
    assert response.status_code in (401, 422)
    assert "set-cookie" not in response.headers


async def test_a_session_does_not_outlive_its_token(service: Running) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    token = await add_token(service.context.database, "viewer", "guest", expires_at=soon)
    async with client(service.url, None) as browser:
        await browser.post("/api/v1/session", json={"token": token})
    async with service.context.database.transaction() as session:
        expiries = (await session.scalars(select(Token.expires_at).where(Token.name == "guest"))).all()
    assert len(expiries) == 2  # the token and the session
    assert max(e for e in expiries if e is not None) == soon
