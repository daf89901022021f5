"""HTTP: the dashboard's page and its files, and the API's documentation.

Their addresses are relative, so that they hold under any path that a proxy serves them at.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_STATIC = Path(__file__).parent / "static"
_PAGE = (_STATIC / "index.html").read_text()
"""With addresses from the root on."""
_POLICY = (
    "default-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(include_in_schema=False)
static_files = StaticFiles(directory=_STATIC)


@router.get("/docs")
async def api_docs() -> HTMLResponse:
    """Swagger UI for /openapi.json, from our own files."""
    vendor = "static/vendor/swagger-ui"
    found = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="AdaDim Service API",
        swagger_js_url=f"{vendor}/swagger-ui-bundle.js",
        swagger_css_url=f"{vendor}/swagger-ui.css",
        swagger_favicon_url="static/favicon.svg",
    )
    return _page(bytes(found.body).decode())


@router.get("/")
@router.get("/experiments")
@router.get("/experiments/")
@router.get("/experiments/{experiment_id}")
@router.get("/experiments/{experiment_id}/")
async def page(request: Request) -> HTMLResponse:
    """The one page; it reads its own address."""
    root = "../" * (request.url.path.count("/") - 1) or "./"
    return _page(_PAGE.replace('="/', f'="{root}'))


def _page(text: str) -> HTMLResponse:
    """A page that may run our own files and, word for word, the scripts that are in it."""
    hashes = [b64encode(sha256(script.encode()).digest()).decode() for script in _INLINE_SCRIPT.findall(text)]
    scripts = "; script-src 'self'" + "".join(f" 'sha256-{one}'" for one in hashes) if hashes else ""
    headers = {"Content-Security-Policy": _POLICY.format(scripts=scripts), "Cache-Control": "no-cache"}
    return HTMLResponse(text, headers=headers)
