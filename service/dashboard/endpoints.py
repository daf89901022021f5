"""HTTP: the dashboard's page and its files, and the API's documentation.

Their addresses are relative, so that they hold under any path that a proxy serves them at.
"""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_STATIC = Path(__file__).parent / "static"
_PAGE = (_STATIC / "index.html").read_text()
"""With addresses from the root on."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)
static_files = StaticFiles(directory=_STATIC)


@router.get("/docs")
async def api_docs() -> HTMLResponse:
    """Swagger UI for /openapi.json, from our own files."""
    vendor = "static/vendor/swagger-ui"
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="AdaDim Service API",
        swagger_js_url=f"{vendor}/swagger-ui-bundle.js",
        swagger_css_url=f"{vendor}/swagger-ui.css",
        swagger_favicon_url="static/favicon.svg",
    )


@router.get("/")
@router.get("/experiments")
@router.get("/experiments/")
@router.get("/experiments/{experiment_id}")
@router.get("/experiments/{experiment_id}/")
async def page(request: Request) -> HTMLResponse:
    """The one page; it reads its own address."""
    root = "../" * (request.url.path.count("/") - 1) or "./"
    return HTMLResponse(_PAGE.replace('="/', f'="{root}'), headers=_HEADERS)
