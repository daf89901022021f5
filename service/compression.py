"""Answers packed for readers who take them so. Owns when and how; what is in them is the routes'."""

import asyncio
import re
import zlib

from fastapi import Request, Response

_WORTH_IT = 16 * 1024
_GZIP = 31
"""zlib's number for the largest window and the header of gzip."""
_at_once = asyncio.Semaphore(2)
"""However many read, the other processors are for reports."""


async def compressed(request: Request, body: bytes, media_type: str = "application/json") -> Response:
    """An answer, packed if it is large and its reader takes it so."""
    headers = {"Vary": "Accept, Accept-Encoding"}
    if len(body) >= _WORTH_IT and _takes_gzip(request):
        async with _at_once:
            body = await asyncio.to_thread(zlib.compress, body, 1, _GZIP)
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=media_type, headers=headers)


class Unchanging:
    """A JSON document that is the same each time: it is packed once, whoever may ask for it."""

    def __init__(self, body: bytes) -> None:
        self._body, self._packed = body, zlib.compress(body, 9, _GZIP)

    def response(self, request: Request) -> Response:
        """It, as its reader takes it."""
        packed = _takes_gzip(request)
        headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if packed else {})
        return Response(self._packed if packed else self._body, media_type="application/json", headers=headers)


def _takes_gzip(request: Request) -> bool:
    return re.search(r"\bgzip\b(?!\s*;\s*q=0)", request.headers.get("accept-encoding", "")) is not None
