"""Frontends: what reads the build's description, and the attributes it takes.

Reference: frontend/dockerui/config.go; frontend/dockerfile/docs/reference.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NetworkMode = Literal["host", "none", "sandbox"]
ResolveMode = Literal["default", "pull", "local"]


class Frontend(Protocol):
    """What reads the build's description on the daemon.

    Attributes:
        name: ``dockerfile.v0`` or ``gateway.v0``.
    """

    @property
    def name(self) -> str:
        """The frontend's name on the wire."""

    def to_attrs(self) -> dict[str, str]:
        """Return the frontend's attributes as the wire has them."""


@dataclass(frozen=True, slots=True)
class RawFrontend:
    """A frontend by name, with attributes passed on as they are.

    Attributes:
        name: For example ``gateway.v0``.
        attrs: Every attribute, as ``buildctl --opt`` takes them.
    """

    name: str
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes unchanged."""
        return dict(self.attrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileFrontend:
    """Build a Dockerfile (``dockerfile.v0``, built into the daemon).

    Attributes:
        filename: The Dockerfile's path inside the local directory ``dockerfile``; empty takes ``Dockerfile``.
        target: Stage to build; empty takes the last.
        build_args: Values of ``ARG`` names. They end up in the image's history: not for secrets.
        labels: Labels of the image.
        platforms: For example ``linux/arm64``; empty takes the worker's.
        no_cache: True to run every step again, or names of the stages to run again.
        pull: ``pull`` asks the registry for a newer base image each time; ``local`` never does.
        add_hosts: IP address by host name, for RUN steps.
        network: Network of RUN steps; ``host`` needs the entitlement ``network.host``.
        shm_size_bytes: Size of ``/dev/shm`` in RUN steps; 0 takes the default.
        ulimits: ``soft[:hard]`` by name.
        hostname: Host name in RUN steps; empty takes the default.
        cgroup_parent: Parent cgroup of RUN steps.
        attrs: Further attributes, passed on as they are; they win over the fields above.
    """

    filename: str = ""
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[str] = ()
    no_cache: bool | Sequence[str] = False
    pull: ResolveMode = "default"
    add_hosts: Mapping[str, str] = field(default_factory=dict)
    network: NetworkMode | Literal[""] = ""
    shm_size_bytes: int = 0
    ulimits: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    cgroup_parent: str = ""
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """``dockerfile.v0``."""
        return "dockerfile.v0"

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes as ``dockerfile.v0`` takes them.

        Raises:
            OptionError: A build argument, label or platform has an empty name.
        """
        fields = (
            ("filename", self.filename),
            ("target", self.target),
            ("platform", ",".join(_several(self.platforms))),
            ("force-network-mode", self.network),
            ("hostname", self.hostname),
            ("cgroup-parent", self.cgroup_parent),
            ("add-hosts", ",".join(f"{host}={ip}" for host, ip in self.add_hosts.items())),
            ("ulimit", ",".join(f"{name}={limit}" for name, limit in self.ulimits.items())),
        )
        attrs = {key: value for key, value in fields if value}
        if self.shm_size_bytes:
            attrs["shm-size"] = str(self.shm_size_bytes)
        if self.pull != "default":
            attrs["image-resolve-mode"] = self.pull
        if self.no_cache is True:
            attrs["no-cache"] = ""
        elif self.no_cache:
            attrs["no-cache"] = ",".join(_several(self.no_cache))
        for prefix, values, what in (
            ("build-arg:", self.build_args, "build argument"),
            ("label:", self.labels, "label"),
        ):
            if "" in values:
                raise OptionError(f"a {what} has an empty name")
            attrs.update({prefix + name: value for name, value in values.items()})
        if not all(_several(self.platforms)):
            raise OptionError("a platform is empty", hint="write platforms like linux/amd64")
        attrs.update(self.attrs)
        return attrs


def _several(values: Sequence[str]) -> Sequence[str]:
    """Return values as a sequence of texts; a single text, which is a sequence of letters, counts as one value."""
    return (values,) if isinstance(values, str) else values
