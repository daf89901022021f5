"""The file of a backup: a zip archive with a manifest, one member per table, and a list of the storage's files.

Owns its form and what is checked of it. Nothing of it is ever unpacked to disk, and nothing is believed before it is
checked: members have names that the manifest gives them, lengths and checksums. Whose token is in it may sign in to
what is restored from it, which no check can tell: restore your own backups only.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1
_MANIFEST, _STORAGE = "manifest.json", "storage.jsonl"
_MAX_MANIFEST = 1 << 20
_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""What reading an archive raises that is cut short, encrypted, or none."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArchiveError(Exception):
    """The file is no backup that can be restored here. The text says why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Content(_Strict):
    """What a member has in it, unpacked."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Table(Content):
    """A table: its rows in PostgreSQL's binary COPY format."""

    name: Name
    columns: Annotated[list[Name], Field(min_length=1, max_length=200)]
    rows: Annotated[int, Field(ge=0)]
    sequences: dict[Name, Annotated[int, Field(ge=1, lt=2**63)]]
    """The last number that each column with an identity has given."""


class Manifest(_Strict):
    """What a backup is of."""

    format: Literal[1]
    adadim: Annotated[str, Field(max_length=50)]
    """The version that wrote it."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-z_]{1,32}$")]
    """Of the schema."""
    taken_at: Annotated[str, Field(max_length=50)]
    installation: Annotated[str, Field(pattern=r"^[0-9a-z]{1,32}$")]
    tables: Annotated[list[Table], Field(max_length=200)]
    """In an order in which no row refers to one that is not there yet."""
    storage: Content
    storage_files: Annotated[int, Field(ge=0)]


class Writer:
    """Writes an archive, member by member; the manifest comes last. To be used as a context."""

    def __init__(self, file: IO[bytes]) -> None:
        # Points are packed already: harder work would save little.
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # a member that was not finished: nobody wants what there is
            self._zip.close()

    def table(self, name: str) -> "Member":
        """Begin the rows of a table. One member is written at a time."""
        return Member(self._zip.open(_member_of(name), "w", force_zip64=True))

    def storage(self) -> "Member":
        """Begin the list of the storage's files."""
        return Member(self._zip.open(_STORAGE, "w", force_zip64=True))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest."""
        self._zip.writestr(_MANIFEST, manifest.model_dump_json(indent=1))


class Member:
    """A member that is being written."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member
        self._hash = hashlib.sha256()
        self._bytes = 0

    async def write(self, data: bytes) -> None:
        """Write more of it."""
        self._member.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def end(self) -> Content:
        """It is whole: what is in it."""
        self._member.close()
        return Content(bytes=self._bytes, sha256=self._hash.hexdigest())


def _member_of(table: str) -> str:
    return f"tables/{table}.copy"


class Reader:
    """An archive that is what its manifest says, member by member as they are read. To be used as a context."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveError; OSError if the file cannot be opened."""
        self._path = path
        self._file = path.open("rb")
        try:
            self._zip = zipfile.ZipFile(self._file)
            self.manifest = self._read_manifest()
        except (ArchiveError, *_BROKEN) as error:
            self._file.close()
            raise self._wrong(str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    async def rows(self, table: Table) -> AsyncIterator[bytes]:
        """A table's rows. Raises ArchiveError at the latest after the last of them."""
        for piece in self._pieces(_member_of(table.name), table):
            yield piece

    def storage_files(self) -> Iterator[tuple[str, int]]:
        """Names below the storage and sizes. Raises ArchiveError at the latest after the last of them."""
        rest = b""
        for piece in self._pieces(_STORAGE, self.manifest.storage):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield self._storage_file(line)

    def _read_manifest(self) -> Manifest:
        names = [member.filename for member in self._zip.infolist()]
        if _MANIFEST not in names:
            raise ArchiveError("it has no manifest")
        if self._zip.getinfo(_MANIFEST).file_size > _MAX_MANIFEST:
            raise ArchiveError("its manifest is too large")
        text = self._zip.read(_MANIFEST)
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            detail = error.errors()[0]
            if detail["loc"] == ("format",):
                raise ArchiveError(f"its format is not {FORMAT}: a later version of adadim wrote it") from None
            raise ArchiveError(f"its manifest is wrong at {'.'.join(map(str, detail['loc']))}") from None
        expected = [_MANIFEST, _STORAGE, *(_member_of(table.name) for table in manifest.tables)]
        if sorted(names) != sorted(expected):
            raise ArchiveError("its members are not those of its manifest")
        return manifest

    def _pieces(self, name: str, content: Content) -> Iterator[bytes]:
        found, total = hashlib.sha256(), 0
        try:
            with self._zip.open(name) as member:
                while piece := member.read(_CHUNK):
                    total += len(piece)
                    if total > content.bytes:
                        break
                    found.update(piece)
                    yield piece
        except _BROKEN as error:
            raise self._wrong(f"{name}: {error}") from None
        if total != content.bytes or found.hexdigest() != content.sha256:
            raise self._wrong(f"{name} is not what was written")

    def _storage_file(self, line: bytes) -> tuple[str, int]:
        try:
            name, size = json.loads(line)
            return str(name), int(size)
        except (ValueError, TypeError):
            raise self._wrong(f"{_STORAGE} is not what was written") from None

    def _wrong(self, why: str) -> ArchiveError:
        return ArchiveError(f"{self._path} cannot be restored: {why}")


def storage_line(name: str, size: int) -> bytes:
    """A file of the storage as the list has it."""
    return json.dumps([name, size]).encode() + b"\n"
