"""Object stores of the tests, as fixtures: a real S3 server, and stores that answer as they are told."""

import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer


class S3:
    """A real S3 server on this machine (moto's), with one bucket."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        self.address = "{}:{}".format(*self._server.get_host_and_port())
        self.url = f"http://{self.address}"
        request = urllib.request.Request(
            f"{self.url}/bucket", method="PUT", headers={"Authorization": "AWS4 x/x/x/s3/"}
        )
        urllib.request.urlopen(request, timeout=30).close()

    def environment(self) -> dict[str, str]:
        """What pyarrow, as every AWS client, reads."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3:
    """This process uses the server too, and a scratch folder of its own."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    return s3_server


@pytest.fixture
def place(s3: S3, request: pytest.FixtureRequest) -> str:
    """The address of an empty storage in a bucket."""
    return f"s3://bucket/{request.node.originalname}"


@pytest.fixture
def store_that_says() -> Iterator[Callable[..., str]]:
    """Makes a store that answers every request as one is told; returns its address, as host:port."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[], tuple[int, bytes]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def say(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = answer()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if self.command != "HEAD" else b"")

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = say  # noqa: N815 - the names http.server calls

            def log_message(self, *_: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
