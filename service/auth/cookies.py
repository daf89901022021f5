"""The cookie of a browser session: its name, who may set it, and how it is read.

Over TLS its name begins with `__Host-`: browsers take such a cookie from this very host only, neither from its
neighbours below one domain nor over plain HTTP. Without TLS cookies do not know ports, so the port is in the name: two
services on one machine do not sign each other's users out.
"""

from fastapi import Request, Response

_NAME = "adadim_session"
_NAME_OVER_TLS = f"__Host-{_NAME}"


def read(request: Request) -> str | None:
    """The session of a request, if it carries one."""
    return request.cookies.get(_NAME_OVER_TLS) or request.cookies.get(_name(request))


def write(request: Request, response: Response, session: str, *, seconds: int) -> None:
    """Give a browser its session."""
    # Behind a proxy that ends TLS only the browser knows.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    name = _NAME_OVER_TLS if secure else _name(request)
    response.set_cookie(name, session, max_age=seconds, httponly=True, samesite="strict", secure=secure)


def delete(request: Request, response: Response) -> None:
    """Have a browser forget its session."""
    for name in {_NAME_OVER_TLS, _name(request)} & request.cookies.keys():
        response.delete_cookie(name, httponly=True, samesite="strict", secure=name == _NAME_OVER_TLS)


def _name(request: Request) -> str:
    _, _, port = request.headers.get("host", "").rpartition(":")
    return f"{_NAME}_{port}" if port.isascii() and port.isdecimal() else _NAME
