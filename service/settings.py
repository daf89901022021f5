"""Configuration: every setting is an environment variable with a default that works on a laptop.

Owns the names and defaults. Does not own: secrets (auth), the embedded database or the local cluster.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adadim_core.spec.search import MAX_TRIALS

_HTTP, _POSTGRES = r"^https?://", r"^postgres(ql)?(\+asyncpg)?://"
_BEGINNINGS = {_HTTP: "http:// or https://", _POSTGRES: "postgresql://"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used."""


class Settings(BaseModel):
    """The service's settings. Each field's description names its environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state_dir: Annotated[Path, Field(description="ADADIM_STATE_DIR: admin token, embedded database, results.")]
    host: Annotated[str, Field(description="ADADIM_HOST: address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="ADADIM_PORT: port to listen on; 0 takes a free one.")] = (
        8080
    )
    public_url: Annotated[
        str | None,
        Field(pattern=_HTTP, description="ADADIM_PUBLIC_URL: the service's address as workers see it."),
    ] = None
    database_url: Annotated[
        str | None,
        Field(pattern=_POSTGRES, description="DATABASE_URL: PostgreSQL; default: an embedded one."),
    ] = None
    ray_address: Annotated[
        str | None,
        Field(pattern=_HTTP, description="RAY_ADDRESS: the Ray dashboard's address; default: a local cluster."),
    ] = None
    ray_auth_token: Annotated[str | None, Field(repr=False, description="RAY_AUTH_TOKEN: token of that cluster.")] = (
        None
    )
    ray_num_cpus: Annotated[
        int | None, Field(ge=1, description="ADADIM_RAY_NUM_CPUS: size of the local cluster; default: all.")
    ] = None
    storage: Annotated[
        str | None,
        # An address may carry keys.
        Field(
            repr=False,
            description="ADADIM_STORAGE: where runs keep checkpoints and results; default: the state directory.",
        ),
    ] = None
    slots: Annotated[
        int, Field(ge=1, le=10_000, description="ADADIM_SLOTS: experiments that run at the same time.")
    ] = 4
    owner_slots: Annotated[
        int | None, Field(ge=1, le=10_000, description="ADADIM_OWNER_SLOTS: of these at most so many of one owner.")
    ] = None
    max_trials: Annotated[
        int, Field(ge=1, le=MAX_TRIALS, description="ADADIM_MAX_TRIALS: trials a sweep may have.")
    ] = MAX_TRIALS
    request_rate: Annotated[
        int, Field(ge=1, le=1_000_000, description="ADADIM_REQUEST_RATE: requests a second of one token, per replica.")
    ] = 200
    report_rate: Annotated[
        int,
        Field(
            ge=10,
            le=1_000_000,
            description="ADADIM_REPORT_RATE: workers' reports a second of one attempt, per replica.",
        ),
    ] = 1000
    keep_points_days: Annotated[
        float | None,
        Field(gt=0, description="ADADIM_KEEP_POINTS_DAYS: age at which ended experiments lose points; default: never."),
    ] = None

    log: Annotated[
        Literal["text", "json"] | None,
        Field(description="ADADIM_LOG: form of log lines, text or json; default: text on a terminal, else json."),
    ] = None
    drain_s: Annotated[
        float,
        Field(ge=0, le=600, description="ADADIM_DRAIN_S: seconds between SIGTERM, which ends readiness, and closing."),
    ] = 0.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings. Raises SettingsError naming the variable that is wrong."""
        variables = {
            "state_dir": "ADADIM_STATE_DIR",
            "host": "ADADIM_HOST",
            "port": "ADADIM_PORT",
            "public_url": "ADADIM_PUBLIC_URL",
            "database_url": "DATABASE_URL",
            "ray_address": "RAY_ADDRESS",
            "ray_auth_token": "RAY_AUTH_TOKEN",
            "ray_num_cpus": "ADADIM_RAY_NUM_CPUS",
            "storage": "ADADIM_STORAGE",
            "slots": "ADADIM_SLOTS",
            "log": "ADADIM_LOG",
            "drain_s": "ADADIM_DRAIN_S",
            "owner_slots": "ADADIM_OWNER_SLOTS",
            "keep_points_days": "ADADIM_KEEP_POINTS_DAYS",
            "max_trials": "ADADIM_MAX_TRIALS",
            "request_rate": "ADADIM_REQUEST_RATE",
            "report_rate": "ADADIM_REPORT_RATE",
        }
        values = {field: environ[name] for field, name in variables.items() if environ.get(name)}
        values.setdefault("state_dir", str(default_state_dir()))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            detail = error.errors()[0]
            name = f"{variables[str(detail['loc'][0])]}: " if detail["loc"] else ""
            message = detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "string_pattern_mismatch":
                message = f"should begin with {_BEGINNINGS[detail['ctx']['pattern']]}"
            raise SettingsError(name + message) from None

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


def default_state_dir() -> Path:
    """Where state lies by default: the user's state directory, or /var/lib for root, as system services have it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/adadim")
    try:
        return platformdirs.user_state_path("adadim")
    except RuntimeError:  # a user who has neither HOME nor an entry in the system's list of users
        raise SettingsError("ADADIM_STATE_DIR: set it, or HOME: this user has no home directory") from None
