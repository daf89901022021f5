"""The HTTP client against a server that fails on purpose, over real HTTP."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service import client as client_module
from service.client import Client, ClientError

Answer = tuple[list[str], str]
"""A log in pieces, and how its stream ends: whole, broken, or status 503."""


class Logs:
    """One log of an experiment, served anew with each connection as `answers` says; the last one is to the end."""

    def __init__(self, answers: list[Answer]) -> None:
        left = iter(answers)
        self.opened = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "/logs" not in self.path:
                    ended = "2026-11-26T00:00:00Z" if outer.opened == len(answers) else None
                    self.answer(200, json.dumps({"ended_at": ended}).encode())
                    return
                pieces, end = next(left)
                outer.opened += 1
                if end not in ("whole", "broken"):
                    self.answer(int(end), b"{}")
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(f"{len(piece.encode()):x}\r\n{piece}\r\n".encode())
                    self.wfile.flush()
                if end == "whole":
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self.close_connection = True

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def followed(answers: list[Answer]) -> Iterator[str]:
    logs = Logs(answers)
    try:
        with Client(logs.url, "token") as client:
            yield from client.logs(1, follow=True)
    finally:
        logs.stop()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_RECONNECT_S", 0.01)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ([(["a\n", "b\n"], "broken"), (["a\nb", "\nc\n"], "whole")], "a\nb\nc\n"),
        ([(["a\n", "b\n"], "whole"), (["a\n"], "broken"), ([], "503"), (["a\nb\nc\n"], "whole")], "a\nb\nc\n"),
        ([(["a\n", "b\n"], "broken"), (["a\n", "x\n"], "broken"), (["a\nx\n", "y\n"], "whole")], "a\nb\na\nx\ny\n"),
        ([([], "broken"), (["ä\n"], "whole")], "ä\n"),
    ],
    ids=["breaks off", "service ends and starts", "another attempt", "nothing read"],
)
def test_a_followed_log_is_read_once_over_lost_connections(answers: list[Answer], text: str) -> None:
    assert "".join(followed(answers)) == text


def test_a_refusal_ends_following() -> None:
    with pytest.raises(ClientError) as refused:
        list(followed([([], "404")]))
    assert refused.value.status == 404


def test_following_gives_up_when_nobody_answers_for_a_while() -> None:
    logs = Logs([])
    logs.stop()
    with Client(logs.url, "token") as client, pytest.raises(ClientError, match="is `adadim serve` running"):
        list(client._followed("/experiments/1", patience_s=0.2))
