"""Configuration: every setting is an environment variable with a default that works on a laptop.

Owns the names and defaults. Does not own: secrets (auth), the embedded database or the local cluster.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from adadim.place import LOOPBACK, default_state_dir
from adadim_core.spec.search import MAX_TRIALS
from service.database.address import read_address

_HTTP = r"^https?://"


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used."""


def _variable(field: str) -> str:
    return "ADADIM_" + field.upper()


def _unset(words: str) -> dict[str, JsonValue]:
    """What the documentation says of a setting that is not set."""
    return {"unset": words}


class Settings(BaseModel):
    """The service's settings. A field's alias is its environment variable: ADADIM_ and its name, or the one it states.

    Descriptions are docs/deployment.md's, whose table is `table`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_variable, populate_by_name=True)

    state_dir: Annotated[
        Path,
        Field(
            description="admin token, embedded database, local results",
            json_schema_extra=_unset("`~/.local/state/adadim` on Linux; for root `/var/lib/adadim`"),
        ),
    ]
    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8080
    allowed_hosts: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9._-]+(\s*,\s*[A-Za-z0-9._-]+)*$",
            description="more names the service may be called by, with commas between them ([security](security.md))",
            json_schema_extra=_unset("addresses, names without a dot, this machine's, `ADADIM_PUBLIC_URL`'s"),
        ),
    ] = None
    public_url: Annotated[
        str | None,
        Field(
            pattern=_HTTP,
            description="the service's address as workers on the cluster see it",
            json_schema_extra=_unset("where it listens"),
        ),
    ] = None
    database_url: Annotated[
        str | None,
        Field(
            alias="DATABASE_URL",
            repr=False,
            description="`postgresql://user:password@host/database`",
            json_schema_extra=_unset("embedded PostgreSQL"),
        ),
    ] = None
    ray_address: Annotated[
        str | None,
        Field(
            alias="RAY_ADDRESS",
            pattern=_HTTP,
            description="the Ray dashboard's HTTP address, `http://head:8265`",
            json_schema_extra=_unset("a local Ray head"),
        ),
    ] = None
    ray_auth_token: Annotated[
        str | None,
        Field(
            alias="RAY_AUTH_TOKEN", repr=False, description="token of that cluster", json_schema_extra=_unset("none")
        ),
    ] = None
    job_key: Annotated[
        str | None,
        Field(
            repr=False,
            description="secret by which jobs show that they are the cluster's, on its nodes under the same name",
            json_schema_extra=_unset("`RAY_AUTH_TOKEN`"),
        ),
    ] = None
    ray_num_cpus: Annotated[
        int | None,
        Field(
            ge=1,
            description="size of the local Ray head",
            json_schema_extra=_unset("the processors left to the service: affinity, a container's quota"),
        ),
    ] = None
    storage: Annotated[
        str | None,
        Field(
            repr=False,  # an address may carry keys
            description="where runs keep checkpoints and results: a folder all nodes share, `s3://` or `gs://`",
            json_schema_extra=_unset("in the state directory"),
        ),
    ] = None
    slots: Annotated[int, Field(ge=1, le=10_000, description="experiments that run at the same time")] = 4
    owner_slots: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000,
            description="of these, at most this many of one owner",
            json_schema_extra=_unset("no limit"),
        ),
    ] = None
    max_trials: Annotated[int, Field(ge=1, le=MAX_TRIALS, description="trials a sweep may have")] = MAX_TRIALS
    request_rate: Annotated[
        int, Field(ge=1, le=1_000_000, description="requests a second of one token, per replica")
    ] = 200
    report_rate: Annotated[
        int, Field(ge=10, le=1_000_000, description="workers' reports a second of one attempt, per replica")
    ] = 1000
    keep_points_days: Annotated[
        float | None,
        Field(
            gt=0,
            description="days after which ended experiments lose their points",
            json_schema_extra=_unset("never"),
        ),
    ] = None
    admin_token_file: Annotated[
        Path | None,
        Field(
            description="file with the admin token, instead of one that the first start makes",
            json_schema_extra=_unset("made in the state directory"),
        ),
    ] = None
    keep_audit_days: Annotated[
        float, Field(ge=30, le=36_500, description="days after which entries of the audit go; 30 at least")
    ] = 365.0
    log: Annotated[
        Literal["text", "json"] | None,
        Field(
            description="form of log lines: `text` or `json`",
            json_schema_extra=_unset("text on a terminal, else json"),
        ),
    ] = None
    drain_s: Annotated[
        float,
        Field(ge=0, le=600, description="seconds between SIGTERM, which ends readiness, and closing"),
    ] = 0.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings. Raises SettingsError naming the variable that is wrong."""
        # An empty one is as good as none, but of the database: whoever lost its address means no other.
        values = {name: environ[name] for name in variables() if environ.get(name)}
        if "DATABASE_URL" in environ:
            values["DATABASE_URL"] = environ["DATABASE_URL"]
        try:
            if _variable("state_dir") not in values:
                values[_variable("state_dir")] = str(default_state_dir())
            return cls.model_validate(values)
        except ValidationError as error:
            detail = error.errors()[0]
            name = f"{detail['loc'][0]}: " if detail["loc"] else ""
            message = detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "string_pattern_mismatch":
                message = "should begin with http:// or https://"
            raise SettingsError(name + message) from None
        except ValueError as error:  # no state directory
            raise SettingsError(str(error)) from None

    @field_validator("database_url")
    @classmethod
    def _readable_database(cls, url: str | None) -> str | None:
        if url is not None:
            read_address(url)
        return url

    @model_validator(mode="after")
    def _remote_cluster_can_reach_us(self) -> Self:
        """Nodes elsewhere neither reach our loopback nor see our state directory."""
        if self.storage is not None and "://" in self.storage and not re.match(r"(s3|gs)://[^/?]", self.storage):
            raise ValueError(
                "ADADIM_STORAGE: must be a folder that every node shares, s3://bucket/... or gs://bucket/..."
            )
        remote = self.ray_address is not None and urlsplit(self.ray_address).hostname not in LOOPBACK
        if remote and self.public_url is None:
            raise ValueError("ADADIM_PUBLIC_URL: needed with a cluster elsewhere, whose workers report there")
        if remote and self.storage is None:
            raise ValueError(
                "ADADIM_STORAGE: needed with a cluster elsewhere, a folder all its nodes share or a bucket"
            )
        return self

    @property
    def storage_root(self) -> str:
        """Folder, or address in an object store, under which every experiment has its own folder."""
        return self.storage or str(self.state_dir.resolve() / "storage")


def variables() -> dict[str, FieldInfo]:
    """Every setting by its environment variable."""
    return {str(field.alias): field for field in Settings.model_fields.values()}


def table() -> str:
    """The settings as docs/deployment.md has them."""
    lines = ["| variable | meaning | default |", "|---|---|---|"]
    for name, field in variables().items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = extra.get(
            "unset", f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"
        )
        lines.append(f"| `{name}` | {field.description} | {default} |")
    return "\n".join(lines)
