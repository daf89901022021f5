"""The data path of metrics in figures: ingest, loss and repeats, queries, disk, live followers, growth.

    .venv/bin/python benchmarks/metrics.py [--scale 1.0] [--dir DIR] [--plot docs/metrics-cost.png]

Starts an embedded PostgreSQL and one service process without a cluster; load comes over HTTP from this process, on
the same cores. Scale 1 has a database of 51 million points (about 1 GB); 0.1 gives a first impression in a minute.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop
from lab import Bench
from machine import describe
from metrics_load import METRICS, Follower, follow, post_all, report, stall, value_at
from sqlalchemy import text

from service.database.tables import Experiment
from service.metrics import reading, repository
from service.metrics.chunks import build
from service.metrics.points import Points, series_key, split_key
from service.trials import repository as trial_rows


async def ingest(bench: Bench) -> None:
    steps = 833
    reports = max(int(400 * bench.scale), 40)
    _, target = await bench.experiment(20)
    bodies = [report(n % 20, n // 20 * steps, steps) for n in range(reports)]
    began = time.perf_counter()
    await post_all(target, bodies, 8)
    rate = reports * steps * len(METRICS) / (time.perf_counter() - began)
    bench.say("durable ingest in batches of 5,000 points", rate, "points/s", least=100_000)
    singles = max(int(10_000 * bench.scale), 1000)
    bodies = [report(n % 20, 10**6 + n // 20, 1) for n in range(singles)]
    began, processor = time.perf_counter(), bench.spent()
    took = await post_all(target, bodies, 256)
    bench.say("reports of six metrics one at a time", singles / (time.perf_counter() - began), "reports/s", least=1000)
    bench.say("  of these, answered in (p95)", float(np.percentile(took, 95)) * 1000, "ms")
    print(f"    ({(bench.spent() - processor).shown(singles)})")
    # One report at a time from each of many: nothing can be committed together.
    targets = [(await bench.experiment(4))[1] for _ in range(50)]
    each = max(int(40 * bench.scale), 10)
    began, processor = time.perf_counter(), bench.spent()
    await asyncio.gather(*(post_all(one, [report(n % 4, n, 1) for n in range(each)], 1) for one in targets))
    bench.say("reports of 50 attempts, one at a time of each", 50 * each / (time.perf_counter() - began), "reports/s")
    print(f"    ({(bench.spent() - processor).shown(50 * each)})")


async def _stored(bench: Bench, number: int, points: int) -> None:
    sql = "SELECT coalesce(sum(points), 0) FROM segments WHERE experiment_id = :id"
    while await bench.scalar(sql, id=number) < points:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def crash(bench: Bench) -> None:
    """Shuffled, a tenth twice, with a crash of service and PostgreSQL in the middle; everything a second time."""
    trials, steps = 10, 50
    each = max(int(100 * bench.scale), 10)
    number, target = await bench.experiment(trials)
    bodies = [report(t, n * steps, steps) for t in range(trials) for n in range(each)]
    for load in range(2):
        some = bodies + random.Random(load).sample(bodies, len(bodies) // 10)
        random.Random(load + 10).shuffle(some)
        posting = asyncio.create_task(post_all(target, some, 16))
        if load == 0:
            await _stored(bench, number, trials * each * steps * len(METRICS) // 2)
            await bench.crash()
            await bench.start()
        await posting
        async with bench.database.snapshot() as session:
            experiment = await session.get_one(Experiment, number)
            rows = await trial_rows.page(session, number, after=None, limit=trials)
            found = await reading.read(session, experiment, rows, None, None)
        keys = list(zip(found.points.series.tolist(), found.points.step.tolist(), strict=True))
        expected = {
            (split_key(key)[0], found.names[split_key(key)[1]], step): value
            for (key, step), value in zip(keys, found.points.value.tolist(), strict=True)
        }
        right = len(keys) == len(expected) == trials * each * steps * len(METRICS) and all(
            repr(value) == repr(value_at(t, METRICS.index(name), s)) for (t, name, s), value in expected.items()
        )
        bench.say(f"random order, 10% repeats, load {load + 1}: points missing, double or wrong",
                  0.0 if right else 1.0, "", most=0)  # fmt: skip


async def fill(bench: Bench, number: int, trials: int, metrics: int, points: int, first_trial: int = 0) -> None:
    """Chunks of whole series, as merging leaves them."""
    rng = np.random.default_rng(0)
    async with bench.database.transaction() as session:
        rows = await trial_rows.page(session, number, after=None, limit=10_000)
        names = [*METRICS, *(f"m_{k}" for k in range(20))][:metrics]
        ids = await repository.metric_ids(session, names, create=True)
    step = np.arange(points)
    at = np.round(1.7e9 + step * 0.05, 3)
    for row in rows[first_trial : first_trial + trials]:
        async with bench.database.transaction() as session:
            for name in names:
                value = np.cumsum(rng.normal(size=points)) + rng.normal(size=points)
                chunks = build(Points.of(series_key(row.number, ids[name]), step, step / 390, at, value))
                await repository.add_chunks(session, [(row.id, ids[name], chunk) for chunk in chunks])


async def timed(bench: Bench, path: str, runs: int = 7, **headers: str) -> tuple[float, int]:
    """Median milliseconds to the last byte, and bytes. Prints the service's share, which other load leaves alone."""
    took, processor = [], bench.processor_s()
    for _ in range(runs):
        began = time.perf_counter()
        answer = await bench.http.get(path, headers=headers)
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.text
    print(f"    (processor time of the service: {(bench.processor_s() - processor) / runs * 1000:.0f} ms each)")
    return statistics.median(took), int(answer.headers["content-length"])


async def queries(bench: Bench) -> None:
    size = max(int(100_000 * bench.scale), 5000)
    many, running = await bench.experiment(101)
    before = await bench.scalar("SELECT pg_total_relation_size('chunks')")
    stored = await bench.scalar("SELECT coalesce(sum(points), 0) FROM chunks")
    await fill(bench, many, 100, 5, size)
    await fill(bench, many, 1, 1, 10 * size, first_trial=100)
    async with bench.database.connect() as connection:
        raw = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await raw.execute(text("VACUUM ANALYZE chunks"))
    points = await bench.scalar("SELECT sum(points) FROM chunks") - stored
    disk = await bench.scalar("SELECT pg_total_relation_size('chunks')") - before
    bench.say("points in the database", points / 1e6, "million")
    bench.say("disk with indexes, values of full precision", disk / points, "bytes/point", most=24)
    bench.say("disk per million points", disk / points, "MB")
    base = f"/experiments/{many}/metrics?metrics=loss&max_points=1000"
    accept = "application/vnd.apache.arrow.stream"
    took, length = await timed(bench, f"{base}&trials=0-99")
    bench.say(f"100 trials x {size:,} points to 1,000 each, JSON ({length / 1e6:.1f} MB)", took, "ms", most=300)
    took, length = await timed(bench, f"{base}&trials=0-99", Accept=accept)
    bench.say(f"  as Arrow IPC ({length / 1e6:.1f} MB)", took, "ms")
    took, _ = await timed(bench, f"{base}&trials=0-99", **{"Accept-Encoding": "gzip"})
    bench.say("  as JSON with gzip", took, "ms")
    took, _ = await timed(bench, f"{base}&trials=100")
    bench.say(f"one trial x {10 * size:,} points to 1,000", took, "ms", most=100)
    took, _ = await timed(bench, f"{base}&trials=0-99&by=epoch&start=10&end={size / 390 - 10:.0f}")
    bench.say("  100 trials in a range of epochs", took, "ms")
    tail = [report(n, 20 * size, 60) for n in range(100)]
    await post_all(running, tail, 8)
    took, _ = await timed(bench, f"{base}&trials=0-99")
    left = await bench.scalar(
        "SELECT sum(points) FROM segments WHERE experiment_id = :id AND merged_at IS NULL", id=many
    )
    bench.say(f"100 trials while they run, {left or 0:,} points not merged yet", took, "ms", most=300)
    await merging(bench)
    wide, target = await bench.experiment(1000)
    names = [*METRICS, *(f"m_{k}" for k in range(6))]
    await post_all(target, [report(t, 1, 1, names) for t in range(1000)], 32)
    took, _ = await timed(bench, f"/experiments/{wide}/metrics/last")
    bench.say("last values of 1,000 trials x 12 metrics", took, "ms", most=100)


async def merging(bench: Bench) -> None:
    """What the service makes of reports by itself: chunks with what merging left behind, and segments until they go."""
    steps, reports = 400, max(int(500 * bench.scale), 100)
    number, target = await bench.experiment(20)
    sizes = "SELECT pg_total_relation_size('chunks')", "SELECT pg_total_relation_size('segments')"
    chunks, segments = [await bench.scalar(sql) for sql in sizes]
    points, processor = steps * reports * len(METRICS), bench.processor_s()
    began = time.perf_counter()
    await post_all(target, [report(n % 20, n // 20 * steps, steps) for n in range(reports)], 8)
    left = "SELECT count(*) FROM segments WHERE experiment_id = :id AND merged_at IS NULL"
    while await bench.scalar(left, id=number):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    took = time.perf_counter() - began
    bench.say(f"{points:,} points taken and merged by the service", points / took, "points/s")
    bench.say("  of these, processor time of the service", (bench.processor_s() - processor) / points * 1e6, "us/point")
    bench.say("  their chunks", (await bench.scalar(sizes[0]) - chunks) / points, "bytes/point", most=24)
    bench.say(
        "  their segments, kept for five minutes", (await bench.scalar(sizes[1]) - segments) / points, "bytes/point"
    )


async def live(bench: Bench) -> None:
    """200 followers, 20 of them not reading and 20 reconnecting, while 10,000 points/s come in."""
    clients, stalled, seconds = 200, 20, max(int(20 * bench.scale), 15)
    number, target = await bench.experiment(10)
    await post_all(target, [report(0, 0, 1)], 1)
    seq = (await bench.http.get(f"/experiments/{number}/metrics/last")).json()["seq"]
    process = psutil.Process(bench.service.pid)
    idle = peak = process.memory_info().rss
    followers = [Follower() for _ in range(clients - stalled)]
    tasks = [
        asyncio.create_task(
            follow(bench.port, bench.token, number, seq, f, keep=n == 0, leave_s=3.0 if n > 160 - 1 else 1e9)
        )
        for n, f in enumerate(followers)
    ] + [asyncio.create_task(stall(bench.port, bench.token, number, seq)) for _ in range(stalled)]
    await asyncio.sleep(3)
    posts = []
    began, processor, own = time.time(), bench.processor_s(), time.process_time()
    for n in range(seconds * 20):
        await asyncio.sleep(max(began + n / 20 - time.time(), 0))
        # 500 points, whose time says when they were posted
        body = report(n % 10, 1 + n // 10 * 100, 100, METRICS[:5], at=time.time() - 0.05 * (1 + n // 10 * 100))
        posts.append(asyncio.create_task(post_all(target, [body], 1)))
        peak = max(peak, process.memory_info().rss)
    sent = time.time() - began
    acknowledged = [took for one in await asyncio.gather(*posts) for took in one]
    last = await bench.scalar("SELECT max(seq) FROM segments WHERE experiment_id = :id", id=number)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(max(f.arrived, default=0) < last for f in followers):
        await asyncio.sleep(0.1)
        peak = max(peak, process.memory_info().rss)
    processor, own = bench.processor_s() - processor, time.process_time() - own
    let_go, deadline = 0.0, time.monotonic() + 60
    while let_go < stalled and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        let_go = await bench.counted("adadim_clients_disconnected_total")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    data = {seq: json.loads(event[event.index(b"data: ") + 6 :]) for seq, event in followers[0].data.items()}
    points = sum(len(s["steps"]) for event in data.values() for s in event["series"])
    same = all(f.checksums == followers[0].checksums for f in followers)
    posted = {seq: [s["times"][0] for s in event["series"]] for seq, event in data.items()}
    late = [f.arrived[seq] - at for f in followers for seq, times in posted.items() if seq in f.arrived for at in times]
    bench.say("points a second sent to followers", seconds * 20 * 500 / sent, "points/s")
    bench.say("followers that missed a point", 0 if same and points == seconds * 20 * 500 else 1, "", most=0)
    back = [f.connections for f in followers if f.connections > 1]
    bench.say("followers that broke off and resumed by Last-Event-ID", len(back), "", least=20)
    bench.say("followers not reading that were let go", let_go, "", least=stalled)
    bench.say("processor time of the service, of one core", processor / sent * 100, "%")
    bench.say("processor time of the clients, of one core", own / sent * 100, "%")
    bench.say("from POST to its answer (p95)", float(np.percentile(acknowledged, 95)) * 1000, "ms")
    bench.say("from POST to client (p50)", float(np.percentile(late, 50)) * 1000, "ms")
    bench.say("from POST to client (p95)", float(np.percentile(late, 95)) * 1000, "ms", most=1000)
    bench.say("service memory before", idle / 2**20, "MiB")
    bench.say("service memory at most, 20 of 200 not reading", peak / 2**20, "MiB", most=1024)


async def growth(bench: Bench, plot: Path | None) -> None:
    """Cost for three numbers of trials and of metrics: of ingest (each point) and of a query (each series)."""
    steps, sizes = 200, (1, 2, 4)
    curves: dict[str, list[tuple[int, float]]] = {}
    for kind in ("trials", "metrics"):
        for factor in sizes:
            trials, metrics = (16 * factor, 6) if kind == "trials" else (16, 6 * factor)
            names = [*METRICS, *(f"m_{k}" for k in range(20))][:metrics]
            number, target = await bench.experiment(trials)
            bodies = [report(t, n * steps, steps, names) for n in range(5) for t in range(trials)]
            began = time.perf_counter()
            await post_all(target, bodies, 8)
            series = trials * metrics
            curves.setdefault(f"ingest, more {kind}", []).append((series, time.perf_counter() - began))
            took, _ = await timed(bench, f"/experiments/{number}/metrics?max_points=100")
            curves.setdefault(f"query, more {kind}", []).append((series, took / 1000))
    for name, curve in curves.items():
        (small, first), (large, last) = curve[0], curve[-1]
        bench.say(f"{name}: cost a series, {large} against {small} series", (last / large) / (first / small), "times",
                  most=1.5)  # fmt: skip
    if plot is not None:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 4))
        for name, curve in curves.items():
            axes.plot(*zip(*curve, strict=True), marker="o", label=name)
        axes.set(xlabel="series", ylabel="seconds", xscale="log", yscale="log", title="Cost of more trials and metrics")
        axes.legend()
        figure.tight_layout()
        figure.savefig(plot, dpi=120)


async def layouts(bench: Bench) -> None:
    """What was weighed against chunks: bytes a point, and time to read one series of 100,000 points, in PostgreSQL."""
    points, metrics = max(int(100_000 * bench.scale), 10_000), 6
    series = "generate_series(0, :n - 1) AS s"
    tables = {
        "rows": (
            ("CREATE TABLE l_rows (trial bigint, metric int, step bigint, epoch real, time float8, value float8,"
            " PRIMARY KEY (trial, metric, step))"),
            (f"INSERT INTO l_rows SELECT 1, m, s, s / 390.0, 1.7e9 + s * 0.05, random() FROM {series},"
            f" generate_series(1, {metrics}) m"),
            "SELECT count(*), min(value) FROM (SELECT * FROM l_rows WHERE trial = 1 AND metric = 3 ORDER BY step) x",
        ),
        "wide rows": (
            ("CREATE TABLE l_wide (trial bigint, step bigint, epoch real, time float8, values jsonb,"
            " PRIMARY KEY (trial, step))"),
            "INSERT INTO l_wide SELECT 1, s, s / 390.0, 1.7e9 + s * 0.05, jsonb_build_object("
            + ", ".join(f"'{name}', random()" for name in METRICS) + f") FROM {series}",
            "SELECT min(v) FROM (SELECT (values ->> 'h_r')::float8 v FROM l_wide WHERE trial = 1 ORDER BY step) x",
        ),
    }  # fmt: skip
    for name, (create, insert, read) in tables.items():
        table = create.split()[2]
        async with bench.database.transaction() as session:
            await session.execute(text(create))
            began = time.perf_counter()
            await session.execute(text(insert.replace(":n", str(points))))
            wrote = time.perf_counter() - began
            size = (await session.execute(text(f"SELECT pg_total_relation_size('{table}')"))).scalar_one()
            began = time.perf_counter()
            await session.execute(text(read))
            took = (time.perf_counter() - began) * 1000
            await session.execute(text(f"DROP TABLE {table}"))
        print(
            f"  layout {name}: {size / points / metrics:.1f} bytes/point, {points * metrics / wrote:,.0f} points/s "
            f"inside PostgreSQL, {took:.0f} ms to scan one series of {points:,}"
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1: 51 million points")
    parser.add_argument("--dir", type=Path, help="where the database lies; default: a temporary folder")
    parser.add_argument("--plot", type=Path, help="where the plot of growth goes (PNG)")
    parser.add_argument("--only", default="ingest,crash,queries,live,growth,layouts", help="parts, comma-separated")
    options = parser.parse_args()
    print(describe("fastapi", "sqlalchemy", "asyncpg", "numpy", "pyarrow", "uvicorn"))
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    parts: dict[str, Any] = {
        "ingest": ingest, "crash": crash, "queries": queries, "live": live,
        "growth": lambda bench: growth(bench, options.plot), "layouts": layouts,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="adadim-bench-", dir=options.dir, ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)  # noqa: ASYNC240
        bench = Bench(Path(directory), options.scale)
        await bench.start()
        try:
            for name in re.split(",", options.only):
                print(f"{name}:")
                await parts[name](bench)
        finally:
            await bench.stop()
    if bench.failed:
        raise SystemExit(f"{len(bench.failed)} figures miss what is wanted")


if __name__ == "__main__":
    uvloop.run(main())
