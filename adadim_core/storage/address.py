"""Addresses of storage: a folder, or an object store's address such as s3://bucket/folder?scheme=http.

Owns how addresses are joined, shown and kept out of errors: they may contain credentials.
"""

import re
from pathlib import Path
from urllib.parse import unquote

SCHEMES = ("s3", "gs", "gcs")
_SECRET_CHARACTERS = 4
"""Anything shorter is no secret, and may be part of a word."""
_PASSWORD = re.compile(r"//[^/?@:]*:[^?]*@")  # a key may hold a / or a @ that nobody escaped
_USER = re.compile(r"//[^/?@]*@")


def in_object_store(location: str) -> bool:
    """Whether an address is that of an object store, not a folder."""
    return "://" in location and not location.startswith("file://")


def folder(location: str) -> Path:
    """The folder of an address that is not an object store's. It may begin with file:// and with ~."""
    return Path(location.removeprefix("file://")).expanduser().absolute()


def join(location: str, name: str) -> str:
    """An address below another one."""
    address, mark, settings = location.partition("?") if in_object_store(location) else (location, "", "")
    return f"{address.rstrip('/')}/{name}{mark}{settings}"


def shown(location: str) -> str:
    """An address for people: without the credentials and settings it may contain."""
    if not in_object_store(location):
        return location
    return _USER.sub("//", _PASSWORD.sub("//", location)).partition("?")[0]


def without_keys(text: str, location: str) -> str:
    """A text, such as an error's, without the credentials and settings of the storage's address."""
    text = text.replace(location, shown(location))
    credentials, _, settings = location.partition("://")[2].partition("?")
    secrets = [credentials.rpartition("@")[0].partition(":")[2]]
    secrets += [setting.partition("=")[2] for setting in settings.split("&") if re.search("key|secret|token", setting)]
    for secret in secrets:
        for form in (secret, unquote(secret)):
            if len(form) >= _SECRET_CHARACTERS:
                text = text.replace(form, "***")
    return text
