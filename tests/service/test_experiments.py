"""Submitting, listing, reading and cancelling experiments over HTTP."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from service_harness import Running, add_token, client
from sqlalchemy import func, select

from adadim_core.spec import MAX_SPEC_BYTES, plan_trials, validate_spec
from service.database.tables import Event, Experiment, IdempotencyKey, Trial

SPEC = """\
# my sweep
name: first sweep
search:
  trials: 3
  space: {training.lr: {uniform: [0.1, 0.5]}}
"""
PATH = "/api/v1/experiments"


async def counts(service: Running) -> dict[str, int]:
    async with service.context.database.transaction() as session:
        return {
            table.__tablename__: (await session.scalars(select(func.count()).select_from(table))).one()
            for table in (Experiment, Trial, Event, IdempotencyKey)
        }


async def test_a_submitted_spec_is_stored_as_written_and_with_every_default(service: Running) -> None:
    response = await service.http.post(PATH, content=SPEC, headers={"Content-Type": "application/yaml"})
    assert response.status_code == 201
    answer = response.json()
    assert response.headers["location"] == f"{PATH}/{answer['id']}"
    assert answer["spec_text"] == SPEC
    assert answer["spec"]["training"]["epochs"] == 100
    assert (answer["state"], answer["desired_state"], answer["owner"]) == ("queued", "run", "ada")
    assert (answer["trial_count"], answer["trials_done"], answer["attempt"]) == (3, 0, 0)
    assert (answer["metric"], answer["mode"], answer["best_trial"], answer["best_value"]) == (
        "knn_top1", "max", None, None,
    )  # fmt: skip
    assert (await service.http.get(response.headers["location"])).json() | {
        "waiting": None,
        "trial_states": None,
    } == answer


async def test_the_stored_spec_plans_the_stored_trials(service: Running) -> None:
    """A worker plans from the spec it is given: its trial 2 must be the service's trial 2."""
    sweep = {
        "name": "order",
        "search": {
            "algorithm": "grid",
            "space": {
                "training.warmup_epochs": {"choice": [1, 2]},
                "training.lr": {"choice": [0.1, 0.2, 0.3]},
                "objective.weighting": {"choice": [{"policy": "fixed", "alpha": 0.5}, {"policy": "adaptive"}]},
            },
        },
    }
    answer = await service.submit(json.dumps(sweep))
    stored = validate_spec((await service.experiment(answer["id"]))["spec"])
    trials = (await service.http.get(f"{PATH}/{answer['id']}/trials")).json()["items"]
    assert [(t["number"], t["params"]) for t in trials] == [(p.number, p.params) for p in plan_trials(stored)]
    dry = (await service.http.post(PATH, params={"dry_run": True}, content=json.dumps(sweep))).json()
    assert dry["trials"] == [{"number": t["number"], "params": t["params"]} for t in trials]


@pytest.mark.parametrize(
    "content_type",
    ["application/yaml", "application/x-yaml; charset=utf-8", "text/yaml", "text/plain", "application/octet-stream",
     "application/x-www-form-urlencoded", "Application/YAML", None],
)  # fmt: skip
async def test_yaml_is_taken_however_curl_sends_it(service: Running, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await service.http.post(PATH, content=SPEC, headers=headers)
    assert response.status_code == 201, response.text


async def test_json_is_taken_and_nothing_else_under_its_name(service: Running) -> None:
    headers = {"Content-Type": "application/json"}
    assert (await service.http.post(PATH, content='{"name": "a"}', headers=headers)).status_code == 201
    refused = await service.http.post(PATH, content=SPEC, headers=headers)
    assert (refused.status_code, refused.json()["title"]) == (422, "Invalid spec")
    strange = await service.http.post(PATH, content=SPEC, headers={"Content-Type": "application/toml"})
    assert strange.status_code == 415
    assert "application/yaml" in strange.json()["detail"]


async def test_a_dry_run_plans_and_stores_nothing(service: Running) -> None:
    headers = {"Idempotency-Key": "dry"}
    response = await service.http.post(PATH, params={"dry_run": "true"}, content=SPEC, headers=headers)
    assert response.status_code == 200
    assert [trial["number"] for trial in response.json()["trials"]] == [0, 1, 2]
    assert set(response.json()["trials"][0]["params"]) == {"training.lr"}
    assert "location" not in response.headers
    assert set((await counts(service)).values()) == {0}


BAD_SPECS: list[tuple[bytes, str, str]] = [
    (b"name: a\ntrainig: {}", "/trainig", "did you mean 'training'?"),
    (b"{name: a, training: {epochs: ten}}", "/training/epochs", "valid integer"),
    (b"{name: a, data: {dataset: imagenet}}", "/data/dataset", "'digits'"),
    (b"{name: a, search: {trials: 1, space: {training.lrr: {uniform: [0, 1]}}}}", "/search/space/training.lrr", "lr"),
    (
        b"{name: a, search: {trials: 1, space: {training.lr: {uniform: [0.1, 999]}}}}",
        "/search/space/training.lr",
        "999",
    ),
    (b"name: [", "", "not valid YAML"),
    (b"a: &a [1]\nb: [*a]", "", "aliases are not allowed"),
    (b"name: a\nname: b", "", "set twice"),
    (b"[" * 1000, "", "nested deeper"),
    (b'{name: a, description: "\\0"}', "/description", "NUL"),
    (b"name: \x00", "", "not valid YAML"),
    (b"name: \xff", "", "not UTF-8"),
    (b"{name: a, training: {seed: " + b"9" * 6000 + b"}}", "", "not valid YAML"),
    (b"{name: a, training: {seed: 99999999999999999999}}", "/training/seed", "64 bits"),
    (b"{name: a, training: {lr: 1e30}}", "/training/lr", "smaller than 2^63"),
    (  # as text under 64 KiB, but numbers are longer when they are written out
        b"{name: a, search: {trials: 860, points: ["
        + b",".join(
            b"{training.lr: %de-5, training.weight_decay: %de-5, training.clip_norm: 1e0}" % (k % 9 + 1, k // 9 + 1)
            for k in range(850)
        )
        + b"], space: {training.lr: {uniform: [1e-6, 1e-3]}, training.weight_decay: {uniform: [0, 1]}, "
        + b"training.clip_norm: {choice: [1e0, 2e0]}}}}",
        "",
        "with its defaults",
    ),
    (b"{name: a, training: {lr: .nan}}", "/training/lr", "finite"),
    (b'{name: a, "\\ud800": 1}', "", "Unicode"),
    (b"!!python/object/apply:os.system [id]", "", "not allowed"),
    (b"", "", "a spec is a mapping"),
    (b"{name: ../../etc/passwd}", "/name", "pattern"),
    (b'{name: "a\\r\\nX-Evil: 1"}', "/name", "pattern"),
]


@pytest.mark.parametrize(("body", "pointer", "reason"), BAD_SPECS)
async def test_a_bad_spec_is_refused_with_its_field_and_leaves_no_trace(
    service: Running, body: bytes, pointer: str, reason: str
) -> None:
    response = await service.http.post(PATH, content=body, headers={"Idempotency-Key": "bad"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["title"], problem["status"]) == ("Invalid spec", 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert reason in problem["errors"][0]["detail"]
    assert set((await counts(service)).values()) == {0}
    assert (await service.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("size", [MAX_SPEC_BYTES + 1, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_spec_that_is_too_large_is_413(service: Running, size: int, chunked: bool) -> None:
    async def pieces() -> Any:
        for _ in range(size // 4096 + 1):
            yield b"#" * 4096

    response = await service.http.post(PATH, content=pieces() if chunked else b"#" * size)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "Body too large"
    assert set((await counts(service)).values()) == {0}


async def test_a_spec_of_exactly_the_allowed_size_is_taken(service: Running) -> None:
    body = SPEC + "#" * (MAX_SPEC_BYTES - len(SPEC))
    assert (await service.http.post(PATH, content=body)).status_code == 201


# -- Idempotency-Key ----------------------------------------------------------------------------------------------


async def test_fifty_posts_of_one_key_give_one_experiment_and_equal_answers(service: Running) -> None:
    headers = {"Idempotency-Key": "once"}

    async def post() -> httpx.Response:
        """As a client does it: what has to wait for the owner's other specs is sent again."""
        async with asyncio.timeout(60):
            while (answer := await service.http.post(PATH, content=SPEC, headers=headers)).status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
        return answer

    answers = await asyncio.gather(*(post() for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert {answer.headers["location"] for answer in answers} == {f"{PATH}/{answers[0].json()['id']}"}
    assert await counts(service) == {"experiments": 1, "trials": 3, "events": 1, "idempotency_keys": 1}


async def test_a_key_used_for_another_body_is_409(service: Running) -> None:
    await service.submit(SPEC, **{"Idempotency-Key": "once"})
    other = await service.http.post(PATH, content="name: other", headers={"Idempotency-Key": "once"})
    assert other.status_code == 409
    assert "different spec" in other.json()["detail"]
    assert (await counts(service))["experiments"] == 1


async def test_a_key_belongs_to_its_owner(service: Running) -> None:
    first = await service.submit(SPEC, **{"Idempotency-Key": "once"})
    token = await add_token(service.context.database, "submitter", "bert")
    async with client(service.url, token) as http:
        second = await http.post(PATH, content="name: other", headers={"Idempotency-Key": "once"})
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]


async def test_without_a_key_every_post_is_an_experiment(service: Running) -> None:
    assert (await service.submit(SPEC))["id"] != (await service.submit(SPEC))["id"]


@pytest.mark.parametrize("key", ["", "a key", "x" * 201, "schlüssel"])
async def test_a_key_that_is_no_key_is_422(service: Running, key: str) -> None:
    headers = httpx.Headers([(b"Idempotency-Key", key.encode("latin-1"))])
    response = await service.http.post(PATH, content=SPEC, headers=headers)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "idempotency-key"


# -- lists --------------------------------------------------------------------------------------------------------


async def test_pages_hold_every_experiment_once_newest_first(service: Running) -> None:
    ids = [(await service.submit(f"name: e{n}"))["id"] for n in range(7)]
    seen: list[int] = []
    cursor: str | None = None
    sizes = []
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await service.http.get(PATH, params=params)).json()
        seen += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        if cursor := page["next_cursor"]:
            await service.submit("name: late")  # what comes in between shifts nothing
        else:
            break
    assert seen == ids[::-1]
    assert sizes == [3, 3, 1]


async def test_the_last_page_says_so_even_when_it_is_full(service: Running) -> None:
    for _ in range(2):
        await service.submit()
    assert (await service.http.get(PATH, params={"limit": 2})).json()["next_cursor"] is None


async def test_trials_are_paged_in_the_order_of_the_plan(service: Running) -> None:
    experiment = await service.submit(SPEC.replace("trials: 3", "trials: 5"))
    path = f"{PATH}/{experiment['id']}/trials"
    first = (await service.http.get(path, params={"limit": 2})).json()
    second = (await service.http.get(path, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [t["number"] for t in first["items"] + second["items"]] == [0, 1, 2, 3, 4]
    assert second["next_cursor"] is None
    trial = first["items"][1]
    detail = (await service.http.get(f"/api/v1/trials/{trial['id']}")).json()
    assert {name: value for name, value in detail.items() if name != "spec"} == trial
    assert (trial["state"], trial["epoch"], trial["latest"]) == ("pending", 0, {})


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=" + "9" * 5000, "cursor=-1", "cursor=abc", "cursor=" + "9" * 19]
)
async def test_a_page_that_cannot_be_is_422(service: Running, query: str) -> None:
    response = await service.http.get(f"{PATH}?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == query.partition("=")[0]


# -- reading what is not there ------------------------------------------------------------------------------------

READS = ["experiments/{}", "experiments/{}/trials", "experiments/{}/metrics", "experiments/{}/events",
         "experiments/{}/logs", "trials/{}", "trials/{}/metrics"]  # fmt: skip


@pytest.mark.parametrize("path", READS)
async def test_what_does_not_exist_is_404(service: Running, path: str) -> None:
    for number in ("1", str(2**63 - 1)):
        response = await service.http.get(f"/api/v1/{path.format(number)}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert number in response.json()["detail"]


@pytest.mark.parametrize("path", READS)
async def test_what_cannot_be_a_number_of_anything_is_422(service: Running, path: str) -> None:
    for number in ("0", "-1", str(2**63), "9" * 5000, "abc", "1.5", "%00", "%ff", "1%0d%0aX-Evil:1"):
        response = await service.http.get(f"/api/v1/{path.format(number)}")
        assert response.status_code == 422, number
        assert response.json()["errors"][0]["pointer"].endswith("_id")
        assert "x-evil" not in response.headers


# -- cancel -------------------------------------------------------------------------------------------------------


async def test_cancel_is_idempotent_and_written_down_once(service: Running) -> None:
    experiment = await service.submit()
    answers = await asyncio.gather(*(service.http.post(f"{PATH}/{experiment['id']}/cancel") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert {(a.json()["state"], a.json()["state_reason"]) for a in answers} == {("cancelling", "cancelled by ada")}
    assert (await counts(service))["events"] == 2  # queued, cancelling


async def test_cancelling_what_has_ended_changes_nothing(service: Running) -> None:
    experiment = await service.submit()
    async with service.context.database.transaction() as session:
        row = await session.get_one(Experiment, experiment["id"])
        row.state = "succeeded"
    answer = await service.http.post(f"{PATH}/{experiment['id']}/cancel")
    assert (answer.status_code, answer.json()["state"], answer.json()["desired_state"]) == (200, "succeeded", "run")


async def test_cancelling_what_does_not_exist_is_404(service: Running) -> None:
    assert (await service.http.post(f"{PATH}/77/cancel")).status_code == 404
