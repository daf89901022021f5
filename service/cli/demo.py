"""`adadim demo`: a service, one sweep on real data, the live view, the answer. Everything it starts, it stops."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from adadim.client import Client, ClientError
from adadim.connection import open_client, state_dir
from adadim.spec_file import read_spec_text
from adadim_core.terminal import terminal_text
from service.cli.watch import watch

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0


def demo(spec: Path, console: Console) -> bool:
    """Run the demo; True if the sweep succeeded. Raises ClientError."""
    text = read_spec_text(spec)
    # SIGTERM unwinds like Ctrl-C does, so that the service does not outlive the demo.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _service(console) as client:
        link = f"Dashboard  [bold]{client.url}/#token={_token()}[/]"
        console.print(link, soft_wrap=True, highlight=False, markup=True)
        experiment = client.submit(text)
        console.print(f"Submitted {spec} as experiment {experiment['id']}\n", highlight=False)
        try:
            ended = watch(client, experiment["id"], console)
        except (KeyboardInterrupt, SystemExit):
            client.cancel(experiment["id"])  # or the next service would take it up again
            raise
        if ended["state"] != "succeeded":
            for piece in client.logs(experiment["id"]):
                console.print(terminal_text(piece), end="", highlight=False, markup=False)
            return False
    console.print(
        "\nSee the curves again: `make serve` (or `adadim serve`), then open the dashboard link it prints.",
        highlight=False,
    )
    return True


@contextlib.contextmanager
def _service(console: Console) -> Iterator[Client]:
    """The service that runs for this state directory, or one started for the demo only."""
    with contextlib.suppress(ClientError):
        client = open_client()
        if client.is_ready():
            with client:
                yield client
            return
    directory = state_dir()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_path = directory / "service.log"
    console.print(f"Starting the service (log: {log_path})", highlight=False)
    log_path.touch(mode=0o600)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli.main", "serve"],
            env=os.environ | {"ADADIM_PORT": os.environ.get("ADADIM_PORT", "0")},
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the demo, which then stops the service in order
        )
    try:
        with _wait(process, log_path) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], log_path: Path) -> Client:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ClientError, OSError, ValueError, KeyError):
            if json.loads((state_dir() / "service.json").read_text())["pid"] == process.pid:
                client = open_client()
                if client.is_ready():
                    return client
        time.sleep(0.1)
    raise ClientError(f"the service did not start; the end of {log_path}:\n{log_path.read_text()[-2000:]}")


def _token() -> str:
    return (state_dir() / "token").read_text().strip()
