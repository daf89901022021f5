"""HTTP: the dashboard's pages and their files, and the API's documentation.

Their addresses are relative, so that they hold under any path that a proxy serves them at.
"""

import functools
import json
import re
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware

from service.compression import Unchanging
from service.problems import answer

_STATIC = Path(__file__).parent / "static"
_IMPORT = re.compile(r'from "\./(\w+\.js)"')


def _needed(script: str) -> list[str]:
    """The scripts that one cannot begin without: what it imports, and what these import."""
    found = [script]
    for name in found:  # grows meanwhile
        found += [other for other in _IMPORT.findall((_STATIC / "js" / name).read_text()) if other not in found]
    return found


_PRELOADS = "".join(f'  <link rel="modulepreload" href="/static/js/{name}">\n' for name in _needed("app.js"))
"""So that a browser asks for all at once, and not for each when it has read the one before."""
_PAGE = (_STATIC / "index.html").read_text().replace("</head>", f"{_PRELOADS}</head>")
_DOCS = (_STATIC / "docs.html").read_text()
"""Both with addresses from the root on."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)
static_files = GZipMiddleware(StaticFiles(directory=_STATIC), minimum_size=1024)


def install(app: FastAPI) -> None:
    """Serve the files, and give browsers a page where there is none. After all routers: routes are tried in order."""
    app.mount("/static", static_files, name="static")
    app.add_exception_handler(404, _nothing_here)


@router.get("/docs")
async def api_docs(request: Request) -> HTMLResponse:
    """Swagger UI for /openapi.json, from our own files."""
    return _html(request, _DOCS)


@router.get("/openapi.json")
async def api_document(request: Request) -> Response:
    """The API as OpenAPI has it."""
    return _api_document(request.app).response(request)


@functools.lru_cache(maxsize=1)  # anyone may ask for it, without a token
def _api_document(app: FastAPI) -> Unchanging:
    return Unchanging(json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode())


@router.get("/")
@router.get("/new")
@router.get("/diff")
@router.get("/experiments")
@router.get("/experiments/")
@router.get("/experiments/{experiment_id}")
@router.get("/experiments/{experiment_id}/")
@router.get("/experiments/{experiment_id}/trials/{number}")
async def page(request: Request) -> HTMLResponse:
    """The one page; it reads its own address."""
    return _html(request, _PAGE)


async def _nothing_here(request: Request, error: Exception) -> Response:
    """A page for people, problem details for programs."""
    for_people = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    return _html(request, _PAGE, 404) if for_people else await answer(request, error)


def _html(request: Request, text: str, status: int = 200) -> HTMLResponse:
    root = "../" * (request.url.path.count("/") - 1) or "./"
    return HTMLResponse(text.replace('="/', f'="{root}'), status, _HEADERS)
