"""How a service shows that it is the one whose token lies in a state directory, before the token is sent to it."""

import hashlib
import hmac

ROUTE = "/api/v1/identity"


def service_proof(token: str, nonce: str, port: int) -> str:
    """HMAC-SHA256, in hex, that who listens on a port knows the token.

    Args:
        token: that of the state directory.
        nonce: what who asks has just made up.
        port: where the service listens. In here, so that nobody who listens elsewhere can pass the question on.
    """
    return hmac.new(token.encode(), f"adadim service\n{nonce}\n{port}".encode(), hashlib.sha256).hexdigest()
