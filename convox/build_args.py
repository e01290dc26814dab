"""Build arguments: where their values come from, which of them a Dockerfile gets, and which look like secrets.

Three sources, the later wins: the app's environment, ``build.args`` of convox.yml, and ``--build-args`` of the command
line. A Dockerfile gets those that it declares with ARG, so that an app's environment does not leave the machine as a
whole. What somebody named on purpose also goes where no ARG can show it is wanted: to names that the builder itself
knows (proxies, ``SOURCE_DATE_EPOCH``, ``BUILDKIT_*``), and to a frontend of another language.

Reference: convox/convox pkg/build/build.go, buildEnvs; pkg/build/buildkit.go, buildArgs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convox.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convox.dockerfile import DockerfileFacts

_BUILDER_KNOWS = re.compile(r"BUILDKIT_\w+|SOURCE_DATE_EPOCH|(?i:(?:HTTP|HTTPS|FTP|NO|ALL)_PROXY)")
_LOOKS_SECRET = re.compile(r"(?i:(?:.*_)?(?:TOKEN|PASSWORD|PASSWD|KEY|SECRET|CREDENTIALS))")

# It names an image that runs as the frontend of the build: an app's environment must not be able to.
_NEVER_FROM_ENVIRONMENT = frozenset({"BUILDKIT_SYNTAX"})


def parse_build_args(items: Iterable[str], values: Mapping[str, str]) -> dict[str, str]:
    """Read ``--build-args`` values.

    Args:
        items: ``NAME=value``, where everything after the first ``=`` is the value, or ``NAME``.
        values: Where ``NAME`` alone finds its value: the caller's environment and :func:`managed_values`.

    Returns:
        Values by name. A ``NAME`` alone that has no value, or an empty one, is left out.

    Raises:
        UsageError: An item has no name. The text does not repeat the item, which may hold a secret.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name.strip():
            raise UsageError("invalid build args: the name is empty", hint="use --build-args NAME=value")
        if equals:
            found[name] = value
        elif values.get(name):
            found[name] = values[name]
    return found


def managed_values(
    *, app: str, build_id: str, rack: str, manifest: str, git_sha: str, is_development: bool
) -> dict[str, str]:
    """Return the values that ``--build-args BUILD_...`` finds on its own.

    ``BUILD_AUTH``, registry passwords in a build argument, is not among them.

    Args:
        app: The app's name.
        build_id: Id of the build.
        rack: The rack's name.
        manifest: The manifest's name as given, for example ``convox.yml``.
        git_sha: Commit of the source, or empty.
        is_development: Whether the build is for development.

    Reference: convox/convox provider/k8s/build.go; docs, "Convox-Managed Build Arguments".
    """
    return {
        "BUILD_APP": app,
        "BUILD_DEVELOPMENT": str(is_development).lower(),
        "BUILD_GENERATION": "2",
        "BUILD_GIT_SHA": git_sha,
        "BUILD_ID": build_id,
        "BUILD_MANIFEST": manifest,
        "BUILD_RACK": rack,
    }


def select_build_args(
    facts: DockerfileFacts,
    *,
    app_env: Mapping[str, str],
    manifest_args: Iterable[str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """Return the build arguments one Dockerfile gets, sorted by name.

    Args:
        facts: What the Dockerfile declares.
        app_env: The app's environment.
        manifest_args: ``build.args`` of the service: ``NAME=value``, or ``NAME`` for the value of the other sources.
        given: What :func:`parse_build_args` returned.
    """
    explicit: dict[str, str] = {}
    for item in manifest_args:
        name, equals, value = item.partition("=")
        if equals:
            explicit[name] = value
        elif name in app_env and name not in _NEVER_FROM_ENVIRONMENT:
            explicit[name] = app_env[name]
    explicit |= given
    chosen = {name: app_env[name] for name in facts.args if name in app_env and name not in _NEVER_FROM_ENVIRONMENT}
    chosen |= {
        name: value
        for name, value in explicit.items()
        if name in facts.args or not facts.is_dockerfile_language or is_builder_arg(name)
    }
    return dict(sorted(chosen.items()))


def is_builder_arg(name: str) -> bool:
    """Say whether the builder itself acts on a build argument, declared or not."""
    return _BUILDER_KNOWS.fullmatch(name) is not None


def looks_secret(name: str) -> bool:
    """Say whether a name reads like that of a secret, for example ``NPM_TOKEN``."""
    return _LOOKS_SECRET.fullmatch(name) is not None
