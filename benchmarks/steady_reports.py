"""What running trials cost the control plane: attempts that report once a second, to one replica and to two.

    .venv/bin/python benchmarks/steady_reports.py [--attempts 50,500] [--replicas 1,2] [--seconds 20]

Each attempt is an experiment of its own with one trial that reports six metrics, on a connection of its own; of N
replicas each has every Nth attempt. Figures are processor time of services and database, everything they do meanwhile
counted in (merging, followers' wake-ups, polls), less what they take while nobody reports.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import uvloop
from lab import Bench
from machine import describe
from metrics_load import Target, answer, report
from processor_time import ProcessorTime


async def reporting(target: Target, first_at: float, seconds: int, took: list[float]) -> None:
    """One report a second, each at its time however long the one before took."""
    await asyncio.sleep(max(first_at - time.perf_counter(), 0))
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    for n in range(seconds):
        due = first_at + n
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        writer.write(target.request(report(0, int(due * 10), 1)))
        status = await answer(reader)
        assert status == 200, status
        took.append(time.perf_counter() - due)
    writer.close()


async def steady(targets: list[Target], seconds: int) -> list[float]:
    """All attempts, spread over the second; the seconds every answer took."""
    took: list[float] = []
    began = time.perf_counter() + 0.2
    await asyncio.gather(
        *(reporting(target, began + n / len(targets), seconds, took) for n, target in enumerate(targets))
    )
    return took


async def measure(directory: Path, replicas: int, counts: list[int], seconds: int) -> None:
    bench = Bench(directory, replicas=replicas)
    await bench.start()
    try:
        targets = [(await bench.experiment(1, bench.ports[n % replicas]))[1] for n in range(max(counts) * replicas)]
        idle = bench.spent()
        await asyncio.sleep(5)
        idle = bench.spent() - idle
        for count in counts:
            chosen = targets[: count * replicas]
            await steady(chosen, 3)  # connections, caches, first reports
            before, own = bench.spent(), [_seconds(service.pid) for service in bench.services]
            began = time.perf_counter()
            took = await steady(chosen, seconds)
            lasted = time.perf_counter() - began
            share = lasted / 5
            cost = bench.spent() - before
            cost = ProcessorTime(cost.service - idle.service * share, cost.database - idle.database * share)
            reports = len(chosen) * seconds
            print(f"{replicas} replica(s), {count} attempts each once a second ({reports} reports):")
            print(f"  {cost.shown(reports)}")
            busy = [(_seconds(s.pid) - b) / lasted * 100 for s, b in zip(bench.services, own, strict=True)]
            print(f"  a replica takes {', '.join(f'{one:.0f} %' for one in busy)} of a core,"
                  f" the database {cost.database / lasted * 100:.0f} %")  # fmt: skip
            p50, p95 = np.percentile(took, [50, 95]) * 1000
            print(f"  answered in {p50:.0f} ms (p50), {p95:.0f} ms (p95)", flush=True)
            bench.say("processor time of service and database, a report", cost.total / reports * 1000, "ms", most=1.5)
    finally:
        await bench.stop()


def _seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", default="50,500", help="of each replica, comma-separated")
    parser.add_argument("--replicas", default="1,2", help="numbers of replicas, comma-separated")
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    print(describe("fastapi", "sqlalchemy", "asyncpg", "uvicorn"))
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    counts = [int(one) for one in options.attempts.split(",")]
    for replicas in map(int, options.replicas.split(",")):
        with tempfile.TemporaryDirectory(prefix="adadim-bench-", ignore_cleanup_errors=True) as directory:
            Path(directory).chmod(0o755)  # noqa: ASYNC240
            await measure(Path(directory), replicas, counts, options.seconds)


if __name__ == "__main__":
    uvloop.run(main())
