"""How the driver of an attempt's job shows the service that it is one: by knowing what only the cluster's own know.

Ray shows a job's environment to every user of its nodes, so nothing in it proves anything. What the cluster's processes
have and its onlookers have not is the cluster's token.
"""

import hashlib
import hmac


def token_digest(token: str) -> str:
    """SHA-256 of an attempt's token, in hex: what the service is told of it beforehand."""
    return hashlib.sha256(token.encode()).hexdigest()


def proof(key: str, attempt: str, code: str, sha256: str) -> str:
    """HMAC-SHA256, in hex, that who knows the key wants the attempt's reports to carry one token and no other.

    Args:
        key: the cluster's token, or what stands in for it.
        attempt: the attempt's identifier.
        code: what the attempt's job was started with. Of no use without the key.
        sha256: digest of the token, as `token_digest` has it.
    """
    message = f"adadim attempt\n{attempt}\n{code}\n{sha256}"
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()
