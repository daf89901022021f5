"""Load for benchmarks/metrics.py: raw HTTP on many connections, cheap enough to share two cores with the service."""

import asyncio
import random
import re
import socket
import struct
import time
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

METRICS = ["loss", "loss_dimension", "knn_top1", "h_r", "i_rz", "alpha"]
"""knn_top1 is what the sweeps look for: every report of it looks for the best trial."""
_MEDIA_TYPE = "application/vnd.adadim.report"


@dataclass
class Target:
    """Where an attempt's reports go."""

    port: int
    attempt: int
    token: str

    def request(self, body: bytes) -> bytes:
        head = (
            f"POST /api/v1/attempts/{self.attempt}/reports HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: {_MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def report(trial: int, first_step: int, steps: int, metrics: Sequence[str] = METRICS, at: float = 1.7e9) -> bytes:
    """A binary report; every value is full precision, so that nothing compresses better than real losses do."""
    head = b'{"series":[{"trial":%d,"steps":%d,"metrics":[%b]}]}' % (
        trial, steps, b",".join(b'"%b"' % name.encode() for name in metrics),
    )  # fmt: skip
    columns = [array("q", range(first_step, first_step + steps)).tobytes()]
    columns.append(array("d", [step / 390 for step in range(first_step, first_step + steps)]).tobytes())
    columns.append(array("d", [round(at + step * 0.05, 3) for step in range(first_step, first_step + steps)]).tobytes())
    steps_here = range(first_step, first_step + steps)
    columns += [array("d", [value_at(trial, m, step) for step in steps_here]).tobytes() for m in range(len(metrics))]
    return b"".join((b"ADR1", struct.pack("<I", len(head)), head, *columns))


def value_at(trial: int, metric: int, step: int) -> float:
    """What any point must be read back as."""
    return random.Random(trial * 1_000_003 + metric * 7919 + step).random() if step % 1000 else float("nan")


async def post_all(
    target: Target, bodies: Iterable[bytes], connections: int, *, patience_s: float = 120.0
) -> list[float]:
    """Post every body until it is acknowledged; the seconds each took. Lost connections and 429 are tried again."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    for body in bodies:
        queue.put_nowait(body)
    took: list[float] = []

    async def work() -> None:
        reader = writer = None
        while not queue.empty():
            request = target.request(queue.get_nowait())
            began = time.perf_counter()
            while True:
                try:
                    if writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
                    writer.write(request)
                    status = await answer(reader)
                except (OSError, asyncio.IncompleteReadError):
                    writer, status = None, 0
                if status == 200:
                    break
                assert status in (0, 429, 503), status
                assert time.perf_counter() - began < patience_s, f"not taken: HTTP {status}"
                await asyncio.sleep(0.2 if status == 0 else 1.0)
            took.append(time.perf_counter() - began)
        if writer is not None:
            writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return took


async def answer(reader: asyncio.StreamReader) -> int:
    """Read one answer; its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    if length:
        await reader.readexactly(int(length[1]))
    return int(head[9:12])


@dataclass
class Follower:
    """One client of the event stream: what came, and when."""

    arrived: dict[int, float] = field(default_factory=dict)
    checksums: dict[int, int] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)
    """Kept by one follower for all."""
    connections: int = 1


async def follow(
    port: int, token: str, experiment: int, after: int, follower: Follower, *, keep: bool, leave_s: float = 1e9
) -> None:
    """Read the stream until cancelled, over ends of connections. Breaks its own off after `leave_s` each."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
            writer.write(_get(experiment, after, token, max(follower.arrived, default=None)))
            leave_at = time.monotonic() + leave_s
            await reader.readuntil(b"\r\n\r\n")
            rest = b""
            while time.monotonic() < leave_at and (size := int(await reader.readline(), 16)):
                rest += await reader.readexactly(size)
                await reader.readexactly(2)
                if not rest.endswith(b"\n\n"):
                    continue
                events, rest = rest.split(b"\n\n"), b""
                for event in events:
                    if event.startswith(b"event: points"):
                        number = int(event[event.index(b"id: ") + 4 : event.index(b"\ndata")])
                        follower.arrived[number] = time.time()
                        follower.checksums[number] = zlib.crc32(event)
                        if keep:
                            follower.data[number] = event
            writer.transport.abort()
            follower.connections += 1
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)


async def stall(port: int, token: str, experiment: int, after: int) -> None:
    """Open the stream and never read."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", port))
    _, writer = await asyncio.open_connection(sock=own, limit=1024)
    writer.write(_get(experiment, after, token))
    try:
        await asyncio.sleep(3600)
    finally:
        writer.transport.abort()


def _get(experiment: int, after: int, token: str, last: int | None = None) -> bytes:
    resumes = "" if last is None else f"Last-Event-ID: {last}\r\n"
    return (
        f"GET /api/v1/experiments/{experiment}/events?after={after} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token}\r\n{resumes}\r\n"
    ).encode()
