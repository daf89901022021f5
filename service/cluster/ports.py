"""Free ports of this machine."""

import contextlib
import random
import socket

_FIRST, _LAST = 20_000, 32_000
"""Above those Ray keeps for its workers (10002 to 19999), below those of outgoing connections (32768 on Linux): none of
these takes a port between its choice here and its use."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens now, all different."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            candidate = random.randint(_FIRST, _LAST)
            with contextlib.suppress(OSError):
                held.enter_context(socket.socket()).bind(("127.0.0.1", candidate))
                ports.append(candidate)
    return ports
