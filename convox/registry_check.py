"""``convox registries check``: tries the login of every registry that a rack knows, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convox.registries import list_registries, registry_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from buildkit_client.oci import CredentialsProvider, LoginCheck, RateLimit
    from convox.rack import Rack

_AT_ONCE = 8


def known_hosts(rack: Rack) -> list[str]:
    """Return the registries that a rack's builds may use: Docker Hub, its own registry, and those it has logins for.

    Raises:
        RackError: The rack's registries cannot be read.
        UsageError: The rack's registry is not a host.
    """
    hosts = [registry_host("docker.io")]
    if rack.registry_host:
        hosts.append(registry_host(rack.registry_host))
    hosts += [registry.host for registry in list_registries(rack)]
    return list(dict.fromkeys(hosts))


def check_registries(rack: Rack, credentials: CredentialsProvider, servers: Iterable[str] = ()) -> list[LoginCheck]:
    """Try logins.

    Args:
        rack: Names the registries, and says whether its own may be reached without TLS.
        credentials: Knows the logins; each registry gets its own and no other.
        servers: Registries to try; none for those that the rack knows.

    Returns:
        What came of each try, in the order of the registries.

    Raises:
        UsageError: One of the servers is no registry.
        RackError: The rack's registries cannot be read.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (not needed by every command)

    from buildkit_client.oci import check_login  # noqa: PLC0415 (not needed by every command)

    hosts: Sequence[str] = list(dict.fromkeys(map(registry_host, servers))) or known_hosts(rack)
    own = registry_host(rack.registry_host) if rack.param("registry_insecure") == "true" and rack.registry_host else ""
    http = rack.registry_http()

    def check(host: str) -> LoginCheck:
        return check_login(host, credentials, insecure=host == own, http=http)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="registries") as pool:
        return list(pool.map(check, hosts))


def describe_status(check: LoginCheck) -> str:
    """Return what came of a try, in words."""
    match check.status:
        case "accepted":
            return "works"
        case "refused":
            return f"refused: {check.why}"
        case "anonymous":
            return "none" + (f": {check.why}" if check.why else "")
        case "open":
            return "not asked for"
        case "unreachable":
            return f"not reached: {check.why}"


def describe_limit(limit: RateLimit | None) -> str:
    """Return a rate limit in words, for example ``76 of 100 in 6h``; empty for none."""
    if limit is None:
        return ""
    text = str(limit.remaining) if limit.limit is None else f"{limit.remaining} of {limit.limit}"
    hours, rest = divmod(limit.window_s, 3600)
    if not limit.window_s:
        return text
    return f"{text} in {hours}h" if hours and not rest else f"{text} in {limit.window_s}s"


def check_to_json(check: LoginCheck) -> dict[str, object]:
    """Return what came of a try as a record."""
    limit = check.rate_limit
    return {
        "server": check.host,
        "status": check.status,
        "username": check.username,
        "source": check.source,
        "why": check.why,
        "limit": None
        if limit is None
        else {
            "limit": limit.limit,
            "remaining": limit.remaining,
            "window": limit.window_s,
            "source": limit.source,
        },
    }
