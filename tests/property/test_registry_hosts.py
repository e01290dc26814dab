"""Registry hosts: one spelling each, and a login never answers for another host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.errors import CredentialsError
from buildkit_client.oci.credentials import DOCKER_HUB_HOSTS, Credentials, StaticCredentials, normalize_host

LABELS = st.text("abcXYZ019-_", min_size=1, max_size=6)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join) | st.sampled_from(sorted(DOCKER_HUB_HOSTS))
PORTS = st.just("") | st.integers(1, 65535).map(":{}".format)
HOSTS = st.builds("{}{}{}".format, NAMES, st.sampled_from(["", "."]), PORTS)


@given(HOSTS)
def test_one_spelling(host: str) -> None:
    normal = normalize_host(host)
    assert normalize_host(normal) == normal
    assert normalize_host(host.upper()) == normal


def is_same_registry(one: str, other: str) -> bool:
    """Say the rule in other words than the code: name without case and one trailing dot, and the very same port."""

    def parts(host: str) -> tuple[str, str]:
        name, _, port = host.lower().partition(":")
        name = name.removesuffix(".")
        return ("hub" if name in DOCKER_HUB_HOSTS and not port else name), port

    return parts(one) == parts(other)


@given(HOSTS, HOSTS | st.text("abc.:-", max_size=3), st.sampled_from(["before", "after", "instead", "upper"]))
def test_a_login_answers_for_its_own_host_only(host: str, other: str, place: str) -> None:
    candidate = {"before": other + host, "after": host + other, "instead": other, "upper": host.upper()}[place]
    try:
        found = StaticCredentials({host: Credentials("bob", "pw")}).lookup(candidate)
    except CredentialsError as exc:
        assert "not a registry host" in str(exc)
    else:
        assert (found is not None) == is_same_registry(host, candidate)
