"""What is different between two builds of an app: records, manifest, environment, and each service's image.

All of it is read from what the builds left behind, records, logs and images, so it works for imported builds too. An
image that is gone, or a registry that does not answer, takes away what only the image knows and nothing else.
"""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convox.build_args import looks_secret
from convox.errors import NotFoundError
from convox.image_facts import ImageFacts
from convox.log_facts import LogFacts, read_log_facts
from convox.masking import mask, secret_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buildkit_client.oci import CredentialsProvider
    from convox.image_facts import Layer
    from convox.images import ImageStore
    from convox.models import Build
    from convox.store import Store

MASK = "****"
"""What the value of a variable or argument is shown as whose name is that of a secret."""


@dataclass(frozen=True, slots=True)
class Change:
    """A named value that is not the same in both builds.

    Attributes:
        name: Its name.
        before: The first build's; None where it has none.
        after: The second build's; None where it has none.
    """

    name: str
    before: str | None
    after: str | None

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {"name": self.name, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDiff:
    """What is different in one service's image.

    Attributes:
        name: The service.
        state: ``same``, ``changed``, ``added`` or ``removed``, by the digest.
        digests: Of both builds; empty where the service has no image.
        sizes: Bytes of all layers, in both; None where that is not known.
        steps: What the logs of both tell.
        bases: Base images.
        env: Variables of the image; values of secrets are masked.
        args: Build arguments in the image's history; values of secrets are masked.
        removed_layers: Layers that only the first has.
        added_layers: Layers that only the second has.
        notes: Why something is not known; one line each.
    """

    name: str
    state: str
    digests: tuple[str, str]
    sizes: tuple[int | None, int | None] = (None, None)
    steps: tuple[LogFacts, LogFacts] = field(default_factory=lambda: (LogFacts(), LogFacts()))
    bases: Sequence[Change] = ()
    env: Sequence[Change] = ()
    args: Sequence[Change] = ()
    removed_layers: Sequence[Layer] = ()
    added_layers: Sequence[Layer] = ()
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "name": self.name,
            "image": self.state,
            "digest": list(self.digests),
            "size": list(self.sizes),
            "steps": [{"count": one.steps, "cached": one.cached} for one in self.steps],
            "bases": [change.to_json() for change in self.bases],
            "env": [change.to_json() for change in self.env],
            "args": [change.to_json() for change in self.args],
            "layers": {
                "removed": [_layer_json(layer) for layer in self.removed_layers],
                "added": [_layer_json(layer) for layer in self.added_layers],
            },
            "notes": list(self.notes),
        }


def _layer_json(layer: Layer) -> dict[str, object]:
    return {"digest": layer.digest, "size": layer.size_bytes, "command": layer.command}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildDiff:
    """What is different between two builds.

    Attributes:
        before: The first build.
        after: The second build.
        services: Each service that one of them has an image of, those of the second first.
        environment: What is not the same in the environments of their releases, all values masked; nothing when one
            of them has no release.
        manifest: Lines of a unified diff of the manifests, without line ends; empty where they are the same.
    """

    before: Build
    after: Build
    services: Sequence[ServiceDiff]
    environment: Sequence[Change]
    manifest: Sequence[str]

    def to_json(self) -> dict[str, object]:
        """Return it as JSON; the builds are their records."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "services": [service.to_json() for service in self.services],
            "environment": [change.to_json() for change in self.environment],
            "manifest": list(self.manifest),
        }


def diff_builds(
    store: Store, before: tuple[Build, ImageStore], after: tuple[Build, ImageStore], credentials: CredentialsProvider
) -> BuildDiff:
    """Compare two builds of one app.

    Args:
        store: Has them.
        before: The first, and where its images are.
        after: The second, and where its images are.
        credentials: For a registry.

    Raises:
        StoreError: The store or a log cannot be read.
    """
    sides = [_Side(store, build, images, credentials) for build, images in (before, after)]
    names = dict.fromkeys((*after[0].images, *before[0].images))
    return BuildDiff(
        before=before[0],
        after=after[0],
        services=[_diff_service(name, *sides) for name in names],
        environment=_environment_changes(*sides),
        manifest=_diff_manifests(before[0], after[0]),
    )


class _Side:
    """One of the two builds."""

    def __init__(self, store: Store, build: Build, images: ImageStore, credentials: CredentialsProvider) -> None:
        from convox.store.logs import read_log  # noqa: PLC0415 (not needed by every command)

        self.build = build
        self._images = images
        self._credentials = credentials
        self._facts: dict[str, ImageFacts | str] = {}
        self.log = read_log_facts(read_log(store.logs_dir, build.app, build.id))
        self.environment: Mapping[str, str] | None = None  # a build that failed has no release that would tell
        if build.release:
            with contextlib.suppress(NotFoundError):
                self.environment = store.get_release(build.app, build.release).environment

    def digest(self, service: str) -> str:
        return self.build.images.get(service, "")

    def facts(self, service: str) -> ImageFacts | str:
        """Return what the image of a service is made of, or why that is not known; empty without an image."""
        from buildkit_client import BuildKitError  # noqa: PLC0415 (not needed by every command)

        digest = self.digest(service)
        if not digest:
            return ""
        if digest not in self._facts:
            name = f"{self._images.repository}:{service}.{self.build.id}"
            try:
                self._facts[digest] = self._images.facts(name, digest, self._credentials)
            except BuildKitError as exc:
                self._facts[digest] = f"{name}: {exc}" + (f": {exc.why}" if exc.why else "")
        return self._facts[digest]


def _diff_service(name: str, before: _Side, after: _Side) -> ServiceDiff:
    digests = (before.digest(name), after.digest(name))
    if digests[0] == digests[1]:
        state = "same"
    else:
        state = "added" if not digests[0] else "removed" if not digests[1] else "changed"
    found = (before.facts(name), after.facts(name))
    notes = list(dict.fromkeys(one for one in found if isinstance(one, str) and one))
    known = [one if isinstance(one, ImageFacts) else None for one in found]
    first, second = (one or ImageFacts(digest="") for one in known)
    logs = (before.log.get(name, LogFacts()), after.log.get(name, LogFacts()))
    if all(known):
        env, args = _changes(first.env, second.env), _changes(first.args, second.args)
        layers = [{layer.digest for layer in one.layers} for one in (first, second)]
        removed = [layer for layer in first.layers if layer.digest not in layers[1]]
        added = [layer for layer in second.layers if layer.digest not in layers[0]]
    else:
        env, args, removed, added = [], [], [], []
    secrets = [value for one in (before, after) for value in secret_values(one.environment or {})]
    for values in (first.env, first.args, second.env, second.args):
        secrets += secret_values(values, is_secret=looks_secret)
    return ServiceDiff(
        name=name,
        state=state,
        digests=digests,
        sizes=(known[0].size_bytes if known[0] else None, known[1].size_bytes if known[1] else None),
        steps=logs,
        bases=_base_changes(logs[0].bases, logs[1].bases) if logs[0].bases and logs[1].bases else (),
        env=_hide_secrets(env, secrets),
        args=_hide_secrets(args, secrets),
        removed_layers=[replace(layer, command=mask(layer.command, secrets)) for layer in removed],
        added_layers=[replace(layer, command=mask(layer.command, secrets)) for layer in added],
        notes=notes,
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Return what is not the same in two mappings, sorted by name."""
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _base_changes(before: Iterable[str], after: Iterable[str]) -> list[Change]:
    """Return base images that only one has, by the name without the digest, so that one that moved is one change."""
    old = {one.partition("@")[0]: one for one in before}
    new = {one.partition("@")[0]: one for one in after}
    return _changes(old, new)


def _hide_secrets(changes: Iterable[Change], secrets: Sequence[str]) -> list[Change]:
    def shown(value: str | None) -> str | None:
        return None if value is None else mask(value, secrets)

    return [
        _hidden(change) if looks_secret(change.name) else Change(change.name, shown(change.before), shown(change.after))
        for change in changes
    ]


def _environment_changes(before: _Side, after: _Side) -> list[Change]:
    if before.environment is None or after.environment is None:
        return []
    return [_hidden(change) for change in _changes(before.environment, after.environment)]


def _hidden(change: Change) -> Change:
    return Change(change.name, None if change.before is None else MASK, None if change.after is None else MASK)


def _diff_manifests(before: Build, after: Build) -> list[str]:
    return list(
        difflib.unified_diff(
            before.manifest.splitlines(),
            after.manifest.splitlines(),
            fromfile=f"convox.yml of {before.id}",
            tofile=f"convox.yml of {after.id}",
            lineterm="",
        )
    )
