"""Secrets: how they are made, hashed, and kept in files only their owner can read.

A token is 32 random bytes; the database keeps its SHA-256 only, which suffices for secrets nobody chose.
"""

import hashlib
import re
import secrets
from pathlib import Path

from adadim_core.storage.atomic import write_text


def new_token() -> str:
    """A fresh secret."""
    return "adadim_" + secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_secret(path: Path) -> str:
    """The secret in a file; empty if there is none, or something that no header could carry."""
    secret = path.read_text(errors="replace").strip() if path.exists() else ""
    return secret if re.fullmatch(r"[!-~]*", secret) else ""


def write_token(path: Path, token: str) -> None:
    """Write a token into a file, and beside it the header that carries it."""
    write_secret(path, token)
    write_header(path, token)


def write_header(path: Path, token: str) -> None:
    """Write the header with a token beside its file, for `curl -H @FILE`: arguments are shown to all on the machine."""
    write_secret(path.with_suffix(".header"), f"Authorization: Bearer {token}")


def write_secret(path: Path, secret: str) -> None:
    """Write a file only its owner can read. It never exists with wider permissions, nor half written."""
    write_text(path, secret + "\n", mode=0o600)
