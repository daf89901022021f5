"""How the command line finds the service: by environment, or by what `adadim serve` leaves in the state directory."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from service.client import Client, ClientError
from service.settings import LOOPBACK, default_state_dir


def state_dir() -> Path:
    """The state directory in use."""
    return Path(os.environ.get("ADADIM_STATE_DIR") or default_state_dir())


def connect() -> Client:
    """A client for ADADIM_URL with ADADIM_TOKEN, or else for the service of this state directory.

    The token of this machine's service goes to no other machine.
    """
    directory = state_dir()
    url, token = os.environ.get("ADADIM_URL"), os.environ.get("ADADIM_TOKEN")
    try:
        url = url or json.loads((directory / "service.json").read_text())["url"]
    except (OSError, ValueError, KeyError):
        raise ClientError("no service found: start one with `adadim serve`, or set ADADIM_URL") from None
    if not token and os.environ.get("ADADIM_URL") and not is_here(str(url)):
        raise ClientError(f"no token for {url}: set ADADIM_TOKEN (the one in {directory} is this machine's alone)")
    try:
        token = token or (directory / "token").read_text().strip()
    except OSError:
        raise ClientError(f"no token found in {directory}: set ADADIM_TOKEN") from None
    if not token.isascii():  # no HTTP header could carry it
        raise ClientError("ADADIM_TOKEN is not a token: it has characters no token has")
    return Client(str(url), token)


def is_here(url: str) -> bool:
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False
