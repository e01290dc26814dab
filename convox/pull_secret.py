"""Logins as a Kubernetes Secret, so that the nodes of a cluster can pull what builds can pull.

The kubelet looks a login up by the host at the beginning of an image's name. Docker Hub's is found under
``https://index.docker.io/v1/``, which stands for every name without a host; ``docker.io`` and ``registry-1.docker.io``
are for programs that compare literally.

Reference: Kubernetes "Pull an Image from a Private Registry"; kubernetes pkg/credentialprovider/keyring.go, Lookup;
convox/convox provider/k8s/process.go, ensureDockerHubSecret.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convox.errors import RackError, UsageError
from convox.logins import docker_hub_login, registry_login
from convox.providers import google_username, profile_for
from convox.registries import encode_auth, list_registries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convox.rack import Rack

DEFAULT_NAME = "docker-hub-authentication"
"""What Convox calls the secret in its clusters."""

DOCKER_HUB_KEYS = ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io")
"""The names under which Docker Hub's login is looked for."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLogins:
    """The logins that go into a secret.

    Attributes:
        auths: ``auth`` of docker's ``config.json`` by key.
        left_out: Registries whose login a secret cannot hold, with the reason.
    """

    auths: Mapping[str, str] = field(repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict)


def pull_logins(rack: Rack, *, has_all: bool = False) -> PullLogins:
    """Return the logins of a rack for the nodes of a cluster.

    Args:
        rack: Has the logins.
        has_all: Take those of its registry and of ``convox registries`` too, not only Docker Hub's.

    Raises:
        RackError: There is none, or one is not whole.
    """
    auths: dict[str, str] = {}
    left_out: dict[str, str] = {}

    def add(host: str, keys: Sequence[str], username: str, password: str) -> None:
        profile = profile_for(host)
        if profile.name == "ecr":
            left_out[host] = "its passwords live twelve hours; nodes on AWS get theirs from their role"
            return
        if not username:
            username = google_username(password) if profile.name == "gar" else password
        for key in keys:
            auths.setdefault(key, encode_auth(username, password))

    if hub := docker_hub_login(rack):
        add("docker.io", DOCKER_HUB_KEYS, *hub)
    if has_all:
        if found := registry_login(rack):
            add(rack.registry_host, (rack.registry_host,), *found)
        for registry in list_registries(rack):
            host = registry.host
            add(host, DOCKER_HUB_KEYS if host == "docker.io" else (host,), registry.username, registry.password)
    if not auths:
        raise RackError(
            f"rack {rack.name} has no login for Docker Hub" if not has_all else f"rack {rack.name} has no login",
            why="; ".join(f"{host} is left out: {why}" for host, why in left_out.items()),
            hint="convox rack params set docker_hub_username=… docker_hub_password=-",
        )
    return PullLogins(auths=auths, left_out=left_out)


def secret_objects(
    logins: PullLogins, *, name: str = DEFAULT_NAME, namespace: str = "", service_account: str = ""
) -> list[dict[str, object]]:
    """Return the objects to apply.

    Args:
        logins: What the secret holds.
        name: Of the secret.
        namespace: Empty for the one that ``kubectl`` is set to.
        service_account: Whose pods use the secret from now on; empty for none. Its other secrets stay.

    Returns:
        The Secret; after it the ServiceAccount, where one is named.

    Raises:
        UsageError: A name is none that Kubernetes takes.
    """
    for what, text, pattern, most in (
        ("secret", name, _NAME, 253),
        ("namespace", namespace, _NAMESPACE, 63),
        ("service account", service_account, _NAME, 253),
    ):
        if (text or what == "secret") and (len(text) > most or not pattern.fullmatch(text)):
            raise UsageError(
                f"not the name of a {what}: {text[:100]!a}", why="it has lower-case letters, digits and dashes"
            )
    place = {"namespace": namespace} if namespace else {}
    config = json.dumps({"auths": {key: {"auth": auth} for key, auth in logins.auths.items()}})
    objects: list[dict[str, object]] = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, **place},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
        }
    ]
    if service_account:
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": service_account, **place},
                "imagePullSecrets": [{"name": name}],
            }
        )
    return objects


def to_yaml(objects: Sequence[Mapping[str, object]]) -> str:
    """Return objects as YAML documents; every text in them is one that needs no quotes, or gets them."""
    return "---\n".join("".join(f"{line}\n" for line in _yaml_lines(one, "")) for one in objects)


def _yaml_lines(value: Mapping[str, object], indent: str) -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        match item:
            case dict():
                lines += [f"{indent}{key}:", *_yaml_lines(item, indent + "  ")]
            case list():
                lines.append(f"{indent}{key}:")
                for entry in item:
                    first, *rest = _yaml_lines(entry, "")
                    lines += [f"{indent}  - {first}", *(f"{indent}    {line}" for line in rest)]
            case _:
                # A name such as "123" or "null" would be read as something else without quotes.
                text = str(item)
                lines.append(f"{indent}{key}: {text if key in _PLAIN_KEYS else json.dumps(text)}")
    return lines


_PLAIN_KEYS = frozenset({"apiVersion", "kind", "type", ".dockerconfigjson"})
