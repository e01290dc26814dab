"""Frontends that read a Dockerfile, and the attributes they take.

Reference: frontend/dockerui/config.go; frontend/dockerfile/docs/reference.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from buildkit_client.errors import OptionError
from buildkit_client.options.attestations import attestation_attrs
from buildkit_client.options.compression import bool_text
from buildkit_client.options.contexts import (
    CAP_CONTEXTS,
    CAP_GIT_QUERY,
    DockerfileText,
    GitContext,
    context_name,
    main_context,
    named_context,
)
from buildkit_client.options.known import check_frontend_attrs
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.options.needs import InputFile, Needs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client.options.attestations import Attestation
    from buildkit_client.options.contexts import MainContext, NamedContext

NetworkMode = Literal["host", "none", "sandbox"]
ResolveMode = Literal["default", "pull", "local"]

_CAPS = "frontend.caps"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileFrontend:
    """Build a Dockerfile (``dockerfile.v0``, built into the daemon).

    Attributes:
        context: The main context: a directory, a git repository, an address, or a stream. None leaves it to the
            solve's ``local_dirs``.
        context_subdir: Folder of it to use, for one that is no local directory.
        dockerfile: Where the Dockerfile is: a directory, or its text beside a local context. None looks in the context.
        contexts: Named contexts: what stands for an image or stage of that name, or can be copied from. A name may end
            with ``::`` and a platform.
        filename: The Dockerfile's path inside its directory; empty takes ``Dockerfile``.
        target: Stage to build; empty takes the last.
        build_args: Values of ``ARG`` names. They end up in the image's history: not for secrets.
        labels: Labels of the image.
        platforms: For example ``linux/arm64``; empty takes the worker's.
        multi_platform: True makes an index also for one platform; False refuses several.
        attestations: What the build says about its image; nothing unless asked.
        no_cache: True to run every step again, or names of the stages to run again.
        pull: ``pull`` asks the registry for a newer base image each time; ``local`` prefers what the daemon has.
        add_hosts: IP address by host name, for RUN steps.
        network: Network of RUN steps; ``host`` needs the entitlement ``network.host``.
        shm_size_bytes: Size of ``/dev/shm`` in RUN steps; 0 takes the default.
        ulimits: ``soft[:hard]`` by name.
        hostname: Host name in RUN steps; empty takes the default.
        cgroup_parent: Parent cgroup of RUN steps.
        memory_bytes: Memory of one RUN step; None for no limit, as for the next five.
        memory_swap_bytes: Memory and swap together; -1 for as much swap as there is.
        cpu_shares: Weight among other steps.
        cpu_period_us: Length of a period of the scheduler.
        cpu_quota_us: Time a step may run in a period.
        cpuset_cpus: CPUs it may use, for example ``0-3,7``; empty for all.
        cpuset_mems: Memory nodes it may use; empty for all.
        vcs_source: Where the sources come from, for the provenance.
        vcs_revision: Their commit, for the provenance.
        attrs: Further attributes, passed on as they are; they win over the fields above.
    """

    context: MainContext | None = field(default=None, repr=False)  # an address may hold a login
    context_subdir: str = ""
    dockerfile: Path | LocalDirectory | DockerfileText | None = None
    contexts: Mapping[str, NamedContext] = field(default_factory=dict, repr=False)
    filename: str = ""
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[str] = ()
    multi_platform: bool | None = None
    attestations: Sequence[Attestation] = ()
    no_cache: bool | Sequence[str] = False
    pull: ResolveMode = "default"
    add_hosts: Mapping[str, str] = field(default_factory=dict)
    network: NetworkMode | Literal[""] = ""
    shm_size_bytes: int = 0
    ulimits: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    cgroup_parent: str = ""
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    cpu_shares: int | None = None
    cpu_period_us: int | None = None
    cpu_quota_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    vcs_source: str = ""
    vcs_revision: str = ""
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """``dockerfile.v0``."""
        return "dockerfile.v0"

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes as ``dockerfile.v0`` takes them.

        Raises:
            OptionError: A value cannot work, two options exclude each other, or an attribute is misspelt.
        """
        check_frontend_attrs("dockerfile.v0", self.attrs)
        return self._context_attrs() | self._plain_attrs() | self._limit_attrs() | dict(self.attrs)

    def needs(self) -> Needs:
        """Return what the contexts want served or sent.

        A local context holds the Dockerfile too, unless ``dockerfile`` says otherwise.

        Raises:
            OptionError: A context cannot work.
        """
        needs = Needs()
        if self.context is not None:
            needs |= main_context(self.context)[1]
            if isinstance(self.context, Path | LocalDirectory) and self.dockerfile is None:
                needs |= Needs(local_dirs={"dockerfile": self.context})
        match self.dockerfile:
            case Path() | LocalDirectory() as path:
                needs |= Needs(local_dirs={"dockerfile": path})
            case DockerfileText() as text:
                needs |= Needs(inputs={"dockerfile": InputFile(self.filename or "Dockerfile", text.data)})
        for name, context in self._named().items():
            needs |= named_context(name, context)[1]
        return needs

    def _named(self) -> dict[str, NamedContext]:
        named = {context_name(name): context for name, context in self.contexts.items()}
        if len(named) != len(self.contexts):
            raise OptionError(
                "two named contexts have the same name",
                why=f"{', '.join(self.contexts)} mean only {', '.join(named)}",
            )
        return named

    def _context_attrs(self) -> dict[str, str]:
        """Return the attributes of contexts, and the capabilities that make old frontends refuse what they ignore."""
        attrs = {} if self.context is None else main_context(self.context)[0]
        is_remote = "context" in attrs or "context" in self.attrs
        if is_remote and isinstance(self.dockerfile, DockerfileText):
            raise OptionError(
                "a Dockerfile's text cannot go with a context that is not local",
                hint="write it into a folder, and give that as dockerfile",
            )
        if is_remote and self.dockerfile is not None:
            attrs["dockerfilekey"] = "dockerfile"
        if self.context_subdir:
            if isinstance(self.context, Path | LocalDirectory):
                raise OptionError(
                    "context_subdir is for contexts that are not local", hint="give the folder as context"
                )
            attrs["contextsubdir"] = self.context_subdir
        named = self._named()
        attrs |= {f"context:{name}": named_context(name, context)[0] for name, context in named.items()}
        caps = [CAP_CONTEXTS] if named else []
        if any(isinstance(one, GitContext) and one.query for one in (self.context, *named.values())):
            caps.append(CAP_GIT_QUERY)
        if caps:
            attrs[_CAPS] = ",".join(f"{cap}+forward" for cap in caps)
        return attrs

    def _plain_attrs(self) -> dict[str, str]:
        fields = (
            ("filename", self.filename),
            ("target", self.target),
            ("platform", ",".join(_several(self.platforms))),
            ("force-network-mode", self.network),
            ("hostname", self.hostname),
            ("add-hosts", ",".join(f"{host}={ip}" for host, ip in self.add_hosts.items())),
            ("vcs:source", self.vcs_source),
            ("vcs:revision", self.vcs_revision),
        )
        attrs = {key: value for key, value in fields if value}
        if self.multi_platform is not None:
            if not self.multi_platform and len(_several(self.platforms)) > 1:
                raise OptionError("several platforms give a result for several platforms", hint="leave one out")
            attrs["multi-platform"] = bool_text(self.multi_platform)
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
        return attrs | attestation_attrs(self.attestations)

    def _limit_attrs(self) -> dict[str, str]:
        """Return the attributes that limit RUN steps."""
        fields = (
            ("cgroup-parent", self.cgroup_parent),
            ("cpusetcpus", self.cpuset_cpus),
            ("cpusetmems", self.cpuset_mems),
            ("ulimit", ",".join(f"{name}={limit}" for name, limit in self.ulimits.items())),
            ("shm-size", str(self.shm_size_bytes or "")),
        )
        attrs = {key: value for key, value in fields if value}
        for key, number in (
            ("memory", self.memory_bytes),
            ("memswap", self.memory_swap_bytes),
            ("cpushares", self.cpu_shares),
            ("cpuperiod", self.cpu_period_us),
            ("cpuquota", self.cpu_quota_us),
        ):
            if number is None:
                continue
            if number < 1 and not (key == "memswap" and number == -1):
                raise OptionError(f"{key} cannot be {number}", why="it must be greater than zero")
            attrs[key] = str(number)
        return attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFrontend(DockerfileFrontend):
    """Let an image do the frontend's work (``gateway.v0``), with the options of a Dockerfile build.

    Attributes:
        source: The frontend's image, for example ``docker/dockerfile:1``.
        cmdline: What a ``# syntax=`` line would say, for images that look at it; empty sends none.

    The other fields are those of :class:`DockerfileFrontend`; ``attrs`` is not checked, the image says what it takes.
    """

    source: str
    cmdline: str = ""

    def __post_init__(self) -> None:
        if not self.source:
            raise OptionError("a gateway frontend needs an image", hint="give its name as source=")

    @property
    def name(self) -> str:
        """``gateway.v0``."""
        return "gateway.v0"

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes, ``source`` among them.

        Raises:
            OptionError: A value cannot work, or two options exclude each other.
        """
        attrs = {"source": self.source} | self._context_attrs() | self._plain_attrs() | self._limit_attrs()
        if self.cmdline:
            attrs["cmdline"] = self.cmdline
        return attrs | dict(self.attrs)


def _several(values: Sequence[str]) -> Sequence[str]:
    """Return values as a sequence of texts; a single text, which is a sequence of letters, counts as one value."""
    return (values,) if isinstance(values, str) else values
