"""How the command line and `adadim.connect` find the service: by environment, or by what `adadim serve` leaves here."""

import json
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from adadim.client import Client, ClientError
from adadim.place import default_state_dir
from adadim_core import network

_IN_A_HEADER = r"[!-~]+"


def state_dir() -> Path:
    """The state directory in use. Raises ClientError."""
    try:
        return Path(os.environ.get("ADADIM_STATE_DIR") or default_state_dir())
    except ValueError as error:
        raise ClientError(str(error)) from None


def open_client(url: str | None = None, token: str | None = None) -> Client:
    """A client of one service.

    The token of this machine's service goes to no other machine, and to no other service on this one.

    Args:
        url: address of the service; default: ADADIM_URL, or else that of the service of the state directory.
        token: default: ADADIM_TOKEN, or else that of the state directory.

    Raises:
        ClientError: there is no service to be found, or no token for it.
    """
    url, token = url or os.environ.get("ADADIM_URL"), token or os.environ.get("ADADIM_TOKEN")
    directory = None if url and token else state_dir()
    of = None if token else directory
    if directory is not None and not token and url and not is_here(url):
        raise ClientError(f"no token for {url}: set ADADIM_TOKEN (the one in {directory} is this machine's alone)")
    if directory is not None:
        url = url or _recorded_url(directory)
        token = token or _recorded_token(directory)
    token = str(token).strip()
    if not re.fullmatch(_IN_A_HEADER, token):
        raise ClientError("ADADIM_TOKEN is not a token: it has characters no token has")
    return Client(str(url), token, of=of)


def is_here(url: str) -> bool:
    """Whether an address is of this machine."""
    try:
        return network.is_here(urlsplit(url).hostname)
    except ValueError:
        return False


def _recorded_url(directory: Path) -> str:
    try:
        return str(json.loads((directory / "service.json").read_text())["url"])
    except (OSError, ValueError, KeyError):
        raise ClientError("no service found: start one with `adadim serve`, or set ADADIM_URL") from None


def _recorded_token(directory: Path) -> str:
    """The token of the service of this machine: the one it was given in a file, or made."""
    given = os.environ.get("ADADIM_ADMIN_TOKEN_FILE")
    try:
        token = Path(given or directory / "token").read_text(errors="replace").strip()
    except OSError:
        raise ClientError(
            f"no token found in {given or directory}: set ADADIM_TOKEN. An admin makes one with `adadim token create`; "
            "where the service runs, `adadim token recover` replaces a lost admin token"
        ) from None
    if not re.fullmatch(_IN_A_HEADER, token):
        raise ClientError(f"{given or directory / 'token'} holds no token: set ADADIM_TOKEN")
    return token
