"""HTTP: whose service this is, for the command line of the same machine. Nobody learns a secret by asking."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from adadim_core.spec.service_proof import ROUTE, service_proof
from service.context import CurrentContext
from service.errors import NotFoundError
from service.problems import PROBLEM_RESPONSES
from service.secret import read_secret

router = APIRouter(tags=["session"], responses=PROBLEM_RESPONSES)


class IdentityRead(BaseModel):
    """That the service knows the token of its state directory, and on which port it listens."""

    proof: str
    """spec/service_proof.py."""


@router.get(ROUTE)
async def prove_identity(
    nonce: Annotated[str, Query(pattern=r"^[0-9a-f]{32,128}$")], request: Request, context: CurrentContext
) -> IdentityRead:
    """Show who listens here, before a token is sent. No token is needed."""
    token = await asyncio.to_thread(read_secret, context.settings.state_dir / "token")
    server: tuple[str, int | None] | None = request.scope.get("server")  # the socket's own, whatever the request says
    if not token or server is None or server[1] is None:
        raise NotFoundError("This service has no token file.")
    return IdentityRead(proof=service_proof(token, nonce, server[1]))
