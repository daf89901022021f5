"""Places as users name them: a folder, or an object store's address as s3://bucket/folder?scheme=http.

Owns how an address is joined, shown and kept out of errors: it may carry keys.
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
    """Whether a place is an object store's, and no folder."""
    return "://" in location and not location.startswith("file://")


def folder(location: str) -> Path:
    """The folder a place names, which is no object store's. It may begin with file:// and with ~."""
    return Path(location.removeprefix("file://")).expanduser().absolute()


def join(location: str, name: str) -> str:
    """A place below another one."""
    address, mark, settings = location.partition("?") if in_object_store(location) else (location, "", "")
    return f"{address.rstrip('/')}/{name}{mark}{settings}"


def shown(location: str) -> str:
    """A place for people: without the keys and settings an address may carry."""
    if not in_object_store(location):
        return location
    return _USER.sub("//", _PASSWORD.sub("//", location)).partition("?")[0]


def without_keys(text: str, location: str) -> str:
    """A text, say an error's, without what the address of the storage carries beside the place."""
    text = text.replace(location, shown(location))
    credentials, _, settings = location.partition("://")[2].partition("?")
    secrets = [credentials.rpartition("@")[0].partition(":")[2]]
    secrets += [setting.partition("=")[2] for setting in settings.split("&") if re.search("key|secret|token", setting)]
    for secret in secrets:
        for form in (secret, unquote(secret)):
            if len(form) >= _SECRET_CHARACTERS:
                text = text.replace(form, "***")
    return text
