"""Trying a login: whether a registry takes it, and how many pulls Docker Hub still allows.

The try is what ``docker login`` does: ask for ``/v2/``, follow the challenge with the login, ask again. Docker Hub
answers one more question on the way, and does not count it as a pull: a HEAD for the manifest of an image that is there
for this says how many pulls are left.

Reference: distribution-spec, "Determining Support"; Docker Hub, "How do I know my pull requests are being limited".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from buildkit_client.errors import CredentialsError, RegistryError
from buildkit_client.oci.credentials import DOCKER_HUB, normalize_host
from buildkit_client.oci.media_types import DOCKER_MANIFEST_LIST, OCI_INDEX
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry_auth import RegistryAuth
from buildkit_client.oci.registry_http import RegistryHttp, Request, scopes_for
from buildkit_client.oci.token import HttpOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.oci.credentials import CredentialsProvider

RATE_LIMIT_IMAGE = "docker.io/ratelimitpreview/test:latest"
"""The image that Docker Hub's documentation names for asking."""

LoginStatus = Literal["accepted", "refused", "anonymous", "open", "unreachable"]

_QUOTA = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w\s*=\s*(\d{1,9}))?\s*")
_READ_TIMEOUT_S = 20.0
_LET_IN = frozenset({200, 429})  # who has no pulls left was let in before that was found out


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many pulls a registry allows.

    Attributes:
        limit: In one window; None when the registry does not say.
        remaining: Of those left.
        window_s: Length of the window in seconds, 0 when the registry does not say.
        source: Whose pulls are counted, an address or an account; may be empty.
    """

    remaining: int
    limit: int | None = None
    window_s: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCheck:
    """What came of a try.

    Attributes:
        host: The registry.
        status: ``accepted`` or ``refused``; ``anonymous`` when there is no login and the registry asks for one,
            ``open`` when it asks for none, ``unreachable`` when no registry answered.
        username: Of the login; empty without one, or with a token that has none.
        source: Where the login was found, in words; empty without one.
        why: Why it was refused or could not be tried, in words; may be empty.
        rate_limit: Only of Docker Hub, and only where it limits.
    """

    host: str
    status: LoginStatus
    username: str = ""
    source: str = ""
    why: str = ""
    rate_limit: RateLimit | None = None


def check_login(
    host: str,
    credentials: CredentialsProvider | None = None,
    *,
    insecure: bool = False,
    http: HttpOptions | None = None,
) -> LoginCheck:
    """Try the login for a registry.

    Args:
        host: The registry, with port where it has one; Docker Hub under any of its names.
        credentials: Knows the login; it is asked for this host alone.
        insecure: Whether certificates are not verified and plain HTTP is taken.
        http: TLS files, proxies, timeouts; one attempt is made by default.

    Returns:
        What came of it; a login that cannot be had, and a registry that cannot be reached, are outcomes as well.

    Raises:
        CredentialsError: The text is not a registry's host.
        OptionError: A file named in the options cannot be used.
    """
    name = normalize_host(host)
    image = Reference.parse(RATE_LIMIT_IMAGE if name == DOCKER_HUB else f"{name}/any")
    options = http or HttpOptions(attempts=1)
    username = source = ""
    try:
        login = credentials.lookup(name) if credentials is not None else None
    except CredentialsError as exc:
        return LoginCheck(host=name, status="refused", why=_in_words(exc))
    has_login = login is not None and not login.is_empty
    if login is not None and has_login:
        username, source = login.username, login.source
    auth = RegistryAuth(image.registry_host, credentials, options)
    registry = RegistryHttp(
        image.registry_host, auth, options, insecure=insecure, read_timeout_s=_READ_TIMEOUT_S, connections=1
    )
    request = _request(name, image)
    try:
        answer = registry.send(request)
        answer.close()
    except CredentialsError as exc:
        return LoginCheck(
            host=name,
            status="refused" if has_login else "anonymous",
            username=username,
            source=source,
            why=_in_words(exc),
        )
    except RegistryError as exc:
        return LoginCheck(host=name, status="unreachable", username=username, source=source, why=_in_words(exc))
    finally:
        registry.close()
    status: LoginStatus
    why = ""
    if answer.status == 404:
        status, why = "unreachable", "HTTP 404: this is no registry"
    elif not auth.is_challenged:
        status = "open"
    elif not has_login:
        status = "anonymous"
    elif answer.status in _LET_IN:
        status = "accepted"
    else:
        status, why = "refused", f"HTTP {answer.status}"
    limit = _rate_limit(answer.headers, is_spent=answer.status == 429) if name == DOCKER_HUB else None
    return LoginCheck(host=name, status=status, username=username, source=source, why=why, rate_limit=limit)


def _request(name: str, image: Reference) -> Request:
    if name != DOCKER_HUB:
        return Request(
            what=f"log in to {name}", method="GET", url="/v2/", accepted=_LET_IN | {401, 403, 404}, repeatable=False
        )
    return Request(
        what=f"log in to {name}",
        method="HEAD",
        url=f"/v2/{image.path}/manifests/{image.tag}",
        scopes=scopes_for(image),
        headers={"Accept": f"{OCI_INDEX}, {DOCKER_MANIFEST_LIST}"},
        accepted=_LET_IN | {401, 403},
        repeatable=False,
    )


def _in_words(exc: CredentialsError | RegistryError) -> str:
    return exc.why or str(exc)


def _rate_limit(headers: Mapping[str, str], *, is_spent: bool) -> RateLimit | None:
    """Read Docker Hub's headers; None where it does not limit this account."""
    remaining = _QUOTA.fullmatch(headers.get("RateLimit-Remaining", ""))
    limit = _QUOTA.fullmatch(headers.get("RateLimit-Limit", ""))
    if remaining is None and not is_spent:
        return None
    window = (remaining and remaining[2]) or (limit and limit[2]) or 0
    source = headers.get("Docker-RateLimit-Source", "")
    return RateLimit(
        remaining=int(remaining[1]) if remaining is not None and not is_spent else 0,
        limit=int(limit[1]) if limit is not None else None,
        window_s=int(window),
        source="".join(char for char in source if char.isprintable())[:100],
    )
