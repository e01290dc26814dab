"""The parameters a rack can have: what they are called, what they accept, how they are shown.

Two kinds stand in one table. Ours say where a build runs and where its images go. Convox's own, for the providers that
have them there, are accepted and kept so that scripts written for a real rack run here, and have no effect. Values that
are secrets are masked on every output unless somebody asks to see them, and can be given as ``=@/path/of/a/file`` or
``=-`` (standard input), which keeps them off the command line.

Reference: convox/convox pkg/cli/rack.go, RackParams, validateAndMutateParams, resolveGroup; pkg/cli/helpers.go,
argsToOptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from convox.build_args import looks_secret
from convox.errors import RackError
from convox.provider_params import provider_defaults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "**********"
"""What a secret value is shown as."""

PROVIDERS = ("aws", "azure", "do", "gcp", "local", "metal")
"""Providers that a rack can name; they decide which Convox parameters are accepted."""

DEFAULT_PROVIDER = "local"

Kind = Literal[
    "text", "bool", "number", "choice", "builder", "registry", "platforms", "file", "json", "store", "server_name"
]


class Param(NamedTuple):
    """One parameter.

    Attributes:
        name: As it is set.
        doc: One line for people.
        kind: What values it takes, see :mod:`convox.rack_values`.
        default: What counts when it is not set; empty for nothing.
        groups: Groups that ``rack params -g`` finds it in.
        choices: The values of kind ``choice``.
        providers: Providers that have it; empty for all.
        is_masked: Whether its value is a secret.
        is_clearable: Whether an empty value takes it away.
        has_effect: False for Convox's parameters that are only kept here.
    """

    name: str
    doc: str
    kind: Kind = "text"
    default: str = ""
    groups: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    is_masked: bool = False
    is_clearable: bool = True
    has_effect: bool = True

    def is_known_to(self, provider: str) -> bool:
        """Say whether racks of a provider have it."""
        return not self.providers or provider in self.providers


def _kept(
    name: str,
    doc: str,
    *groups: str,
    kind: Kind = "text",
    default: str = "",
    providers: tuple[str, ...] = ("aws",),
    is_clearable: bool = False,
) -> Param:
    """Return a parameter of Convox's that is accepted and has no effect here."""
    return Param(
        name,
        f"{doc} (no effect here)",
        kind=kind,
        default=default,
        groups=groups,
        providers=providers,
        is_clearable=is_clearable,
        has_effect=False,
    )


PARAMS: tuple[Param, ...] = (
    Param("builder", "address of buildkitd; several, joined by commas, are tried in turn", "builder", "", ("build",)),
    Param(
        "cache",
        "where layers are kept for the next build: registry, inline (in the image) or none",
        "choice",
        "registry",
        ("build", "registry"),
        choices=("registry", "inline", "none"),
        is_clearable=False,
    ),
    Param(
        "compression",
        "how image layers are packed",
        "choice",
        "gzip",
        ("build",),
        choices=("gzip", "zstd", "estargz", "uncompressed"),
        is_clearable=False,
    ),
    Param(
        "docker_hub_password", "read-only access token of Docker Hub", groups=("registry", "security"), is_masked=True
    ),
    Param("docker_hub_username", "account that pulls from Docker Hub are made with", groups=("registry",)),
    Param("platform", "platforms to build for, as linux/amd64,linux/arm64", "platforms", groups=("build",)),
    Param(
        "provider",
        "whose parameters this rack accepts",
        "choice",
        DEFAULT_PROVIDER,
        ("build",),
        choices=PROVIDERS,
        is_clearable=False,
    ),
    Param(
        "registry", "host, port and path that images are pushed to; none: they stay here", "registry", "", ("registry",)
    ),
    Param(
        "registry_insecure",
        "talk to the registry over HTTP, or HTTPS without checks",
        "bool",
        "false",
        ("registry", "security"),
        is_clearable=False,
    ),
    Param("registry_password", "password for the registry", groups=("registry", "security"), is_masked=True),
    Param("registry_username", "account at the registry", groups=("registry",)),
    Param(
        "store",
        "database URL of the records; none: SQLite in the rack's folder",
        "store",
        "",
        ("storage",),
        is_masked=True,
    ),
    Param("tls_ca", "file of the authority that signed the builder's certificate", "file", "", ("build", "security")),
    Param("tls_cert", "file of this client's certificate for the builder", "file", "", ("build", "security")),
    Param("tls_key", "file of this client's key for the builder", "file", "", ("build", "security")),
    Param("tls_server_name", "name that the builder's certificate must have", "server_name", "", ("build", "security")),
    _kept(
        "additional_build_groups_config",
        "node groups for builds, JSON",
        "build",
        kind="json",
        providers=("aws", "azure"),
        is_clearable=True,
    ),
    _kept("build_disable_convox_resolver", "builds without Convox's resolver", "build", kind="bool", default="false"),
    _kept("build_node_enabled", "a node of its own for builds", "build", kind="bool", default="false"),
    _kept("build_node_min_count", "build nodes kept running", "build", "scaling", kind="number", default="0"),
    _kept("build_node_type", "instance type of the build node", "build", is_clearable=True),
    _kept("buildkit_enabled", "builds with BuildKit", "build", kind="bool", providers=("aws", "do", "gcp")),
    _kept("buildkit_host_path_cache_enable", "build cache on the node's disk", "build", kind="bool", default="false"),
    _kept("disable_image_manifest_cache", "no registry cache on ECR", "registry", kind="bool", default="false"),
    _kept("ecr_additional_policy_arn", "further policy for ECR", "registry", "security", is_clearable=True),
    _kept("ecr_docker_hub_cache", "pull-through cache for Docker Hub", "registry", kind="bool", default="false"),
    _kept("ecr_full_access", "full access to ECR", "registry", "security", kind="bool", default="false"),
    _kept("ecr_scan_on_push_enable", "scan of pushed images", "registry", "security", kind="bool", default="false"),
    _kept(
        "idle_timeout", "seconds until an idle connection ends", "ingress", kind="number", providers=("aws", "azure")
    ),
    _kept("karpenter_build_capacity_types", "capacity types of build nodes", "build", "karpenter"),
    _kept("karpenter_build_consolidate_after", "wait before build nodes go", "build", "karpenter"),
    _kept("karpenter_build_cpu_limit", "CPU limit of build nodes", "build", "karpenter", kind="number"),
    _kept(
        "karpenter_build_instance_families", "instance families of build nodes", "build", "karpenter", is_clearable=True
    ),
    _kept("karpenter_build_instance_sizes", "instance sizes of build nodes", "build", "karpenter", is_clearable=True),
    _kept("karpenter_build_memory_limit_gb", "memory limit of build nodes", "build", "karpenter", kind="number"),
    _kept("karpenter_build_node_labels", "labels of build nodes", "build", "karpenter", is_clearable=True),
    _kept("registry_disk", "disk of the built-in registry", "storage", default="50Gi", providers=("do", "metal")),
    _kept("releases_to_retain_after_active", "releases kept", "retention", kind="number"),
    _kept("releases_to_retain_task_run_interval_hour", "hours between clean-ups", "retention", kind="number"),
)
"""Every parameter, ours first, each part in the order of names."""

BY_NAME = {param.name: param for param in PARAMS}

GROUPS = {
    "build": "where and how images are built",
    "ingress": "connections from outside",
    "karpenter": "build nodes that come and go",
    "registry": "where images are pushed and pulled, and with which accounts",
    "retention": "how long releases are kept",
    "scaling": "numbers of nodes",
    "security": "credentials, certificates, access",
    "storage": "disks and records",
}
"""What each group is about, by name."""

INSTALL_ONLY = frozenset(
    {
        "access_id",
        "availability_zones",
        "cidr",
        "high_availability",
        "internet_gateway_id",
        "private",
        "private_subnets_ids",
        "public_subnets_ids",
        "region",
        "secret_key",
        "token",
        "vpc_id",
    }
)
"""Parameters that Convox lets nobody change after a rack was installed."""

_MASKED_BY_CONVOX = frozenset(
    {
        "HttpProxy",
        "Password",
        "access_id",
        "private_eks_host",
        "private_eks_pass",
        "private_eks_user",
        "secret_key",
        "token",
        "webhook_signing_key",
    }
)


def default_of(name: str, provider: str) -> str:
    """Return what counts for a parameter that a rack of some provider does not set, empty for nothing."""
    param = BY_NAME.get(name)
    if param is not None and param.has_effect:
        return param.default
    return provider_defaults(provider).get(name, "") or (param.default if param else "")


def is_masked(name: str) -> bool:
    """Say whether a parameter's value is a secret.

    A name that is in no table can only have been set by force; it counts as secret when it reads like one.
    """
    param = BY_NAME.get(name)
    if param is not None:
        return param.is_masked
    return name in _MASKED_BY_CONVOX or looks_secret(name)


class ParamsView(NamedTuple):
    """What ``rack params`` shows.

    Attributes:
        rows: Names and values, sorted by name, secrets masked; empty values are shown too.
        notice: A line for standard error, or empty.
    """

    rows: tuple[tuple[str, str], ...]
    notice: str = ""


def view_params(values: Mapping[str, str], *, group: str = "", is_revealed: bool = False) -> ParamsView:
    """Return the parameters of a rack for display: ours and those of its provider's builds with their defaults.

    All others are shown where they are set.

    Args:
        values: What the rack has set.
        group: A group's name or the start of it; empty for all parameters.
        is_revealed: Show secrets in clear.

    Raises:
        RackError: No group has that name, or several begin with it.
    """
    provider = values.get("provider") or DEFAULT_PROVIDER
    defaults = {param.name: default_of(param.name, provider) for param in PARAMS if param.is_known_to(provider)}
    shown = {name: default for name, default in defaults.items() if default or BY_NAME[name].has_effect} | dict(values)
    notice = ""
    if group:
        resolved = resolve_group(group)
        shown = {name: value for name, value in shown.items() if name in BY_NAME and resolved in BY_NAME[name].groups}
        if not shown:
            notice = f"NOTICE: no params in group '{resolved}' for this rack"
    return ParamsView(
        rows=tuple((name, value if is_revealed else mask(name, value)) for name, value in sorted(shown.items())),
        notice=notice,
    )


def mask(name: str, value: str) -> str:
    """Return a parameter's value as it may be shown: asterisks for a secret that is set."""
    return MASK if value and is_masked(name) else value


def resolve_group(text: str) -> str:
    """Return the name of a group from its name or a start of it that no other group has; case does not count.

    Raises:
        RackError: None fits, or several do; the text lists all groups.

    Reference: convox/convox pkg/cli/rack.go, resolveGroup.
    """
    text = text.strip().lower()
    if not text:
        raise RackError(f"group name required\n  {_list_groups()}")
    if text in GROUPS:
        return text
    matches = [name for name in GROUPS if name.startswith(text)]
    if not matches:
        raise RackError(f"group '{text}' not found\n  {_list_groups()}")
    if len(matches) > 1:
        raise RackError(
            f"group '{text}' matches multiple groups: {', '.join(matches)} {_tell_apart(matches)}\n  {_list_groups()}"
        )
    return matches[0]


def _list_groups() -> str:
    width = max(map(len, GROUPS))
    return "available groups:\n" + "\n".join(f"  {name:<{width}}    {about}" for name, about in GROUPS.items())


def _tell_apart(names: Iterable[str]) -> str:
    """Return the shortest starts, of three letters or more, that tell groups apart: ``(use 'reg' or 'ret')``."""
    starts = []
    for name in names:
        length = 3
        while sum(other.startswith(name[:length]) for other in GROUPS) > 1:
            length += 1
        starts.append(f"'{name[:length]}'")
    if len(starts) == 2:
        return f"(use {starts[0]} or {starts[1]})"
    return f"(use {', '.join(starts[:-1])}, or {starts[-1]})"
