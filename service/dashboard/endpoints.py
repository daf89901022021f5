"""HTTP: the dashboard's page and its files."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)
static_files = StaticFiles(directory=_STATIC)


@router.get("/")
@router.get("/experiments/{experiment_id}")
async def page() -> FileResponse:
    """The one page; it reads its own address."""
    return FileResponse(_STATIC / "index.html", headers=_HEADERS)
