"""The operation behind ``run``: a process in a container.

Reference: client/llb/exec.go, ExecOp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.llb.mounts import CacheMount, CdiDevice, Mount, ProxyEnv, Secret, SshSocket, TmpfsMount
from buildkit_client.llb.vertex import EMPTY, Graph, Output, Vertex, with_platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.llb.constraints import Constraints, Metadata
    from buildkit_client.llb.values import Values

Network = Literal["sandbox", "host", "none"]
"""The network a step sees; ``host`` needs the entitlement ``network.host``."""

Security = Literal["sandbox", "insecure"]
"""What a step's processes may do; ``insecure`` needs the entitlement ``security.insecure``."""

_Number = TypeVar("_Number")

ROOT = "/"  # solver/pb/const.go, RootMount

_NETWORKS = {"sandbox": ops_pb2.UNSET, "host": ops_pb2.HOST, "none": ops_pb2.NONE}
_SECURITIES = {"sandbox": ops_pb2.SANDBOX, "insecure": ops_pb2.INSECURE}
_SHARINGS = {"shared": ops_pb2.SHARED, "private": ops_pb2.PRIVATE, "locked": ops_pb2.LOCKED}
_CONTENT_CACHES = {"default": ops_pb2.DEFAULT, "on": ops_pb2.ON, "off": ops_pb2.OFF}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions:
    """What a step is told besides its command and values.

    Attributes:
        mounts: In any order; the root is not one of them.
        secrets: In this order behind the mounts.
        ssh: In this order behind the secrets.
        devices: Wanted devices.
        proxy: Or None.
        readonly_root: The step may change nothing but its mounts.
    """

    mounts: tuple[Mount | CacheMount | TmpfsMount, ...] = ()
    secrets: tuple[Secret, ...] = ()
    ssh: tuple[SshSocket, ...] = ()
    devices: tuple[CdiDevice, ...] = ()
    proxy: ProxyEnv | None = None
    readonly_root: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """A mount with what it needs from the graph; ``mount`` is None for the root."""

    target: str
    mount: Mount | CacheMount | TmpfsMount | None
    source: Output | None
    writes: bool


class ExecOp(Vertex):
    """A process; its results are the root and every writable mount, counted in the order of their targets.

    Raises:
        OptionError: There are no arguments, or two mounts have one target.
    """

    def __init__(self, root: Output | None, values: Values, options: ExecOptions, constraints: Constraints) -> None:
        if not values.args:
            raise OptionError(
                "a step has nothing to run", why="its command is empty", hint="for example run(['make', 'install'])"
            )
        self.constraints = with_platform(constraints, values.platform)
        self._values = values
        self._options = options
        self._places = _places(root, options)
        self._numbers = {
            place.target: number for number, place in enumerate(place for place in self._places if place.writes)
        }
        # Only what this step itself was told, not what it has from its base, goes on to its results.
        self._output_platform = constraints.platform

    def inputs(self) -> list[Output]:
        """Return what is mounted, in the order of the targets."""
        return [place.source for place in self._places if place.source is not None]

    def output(self, target: str) -> Output | None:
        """Return the result that a mount becomes; None for a target that has none."""
        number = self._numbers.get(target)
        return None if number is None else Output(self, number, self._output_platform)

    def fill(self, op: ops_pb2.Op, graph: Graph, /) -> Metadata:
        """Write the process and its mounts.

        Reference: client/llb/exec.go, ExecOp.Marshal.
        """
        values, options = self._values, self._options
        run = op.exec
        run.meta.CopyFrom(_meta(values, options))
        run.network = _choice("network", values.network, _NETWORKS)
        run.security = _choice("security", values.security, _SECURITIES)
        for device in options.devices:
            run.cdiDevices.add(name=device.name, optional=device.optional)
        for place in self._places:
            run.mounts.append(self._mount(place, op, graph))
        for secret in options.secrets:
            if secret.env:
                run.secretenv.add(ID=secret.id, name=secret.env, optional=secret.optional)
            if secret.target:
                run.mounts.append(_secret_mount(secret))
        run.mounts.extend(_ssh_mount(number, socket) for number, socket in enumerate(options.ssh))
        return self.constraints.with_caps(*self._caps()).metadata

    def _mount(self, place: _Place, op: ops_pb2.Op, graph: Graph) -> ops_pb2.Mount:
        mount = place.mount
        message = ops_pb2.Mount(
            input=EMPTY if place.source is None else graph.add_input(op, place.source),
            dest=place.target,
            readonly=self._options.readonly_root if mount is None else getattr(mount, "readonly", False),
            output=self._numbers[place.target] if place.writes else EMPTY,
        )
        match mount:
            case Mount():
                message.selector = mount.selector
                message.contentCache = _choice("content_cache", mount.content_cache, _CONTENT_CACHES)
            case CacheMount():
                message.selector = mount.selector
                message.mountType = ops_pb2.CACHE
                sharing = _choice("sharing", mount.sharing, _SHARINGS)
                message.cacheOpt.CopyFrom(ops_pb2.CacheOpt(ID=mount.id, sharing=sharing))
            case TmpfsMount():
                message.mountType = ops_pb2.TMPFS
                message.TmpfsOpt.CopyFrom(ops_pb2.TmpfsOpt(size=mount.size_bytes))
        return message

    def _caps(self) -> set[str]:
        """Return the capabilities that this step needs.

        Reference: solver/pb/caps.go; client/llb/exec.go, the addCap calls of ExecOp.Marshal.
        """
        values, options = self._values, self._options
        mounts = [place.mount for place in self._places]
        caches = [mount for mount in mounts if isinstance(mount, CacheMount)]
        tmpfs = [mount for mount in mounts if isinstance(mount, TmpfsMount)]
        binds = [
            place for place in self._places if place.source is not None and not isinstance(place.mount, CacheMount)
        ]
        needs = {
            "exec.meta.base": True,
            "exec.validexitcode": bool(values.valid_exit_codes),
            "exec.meta.ulimit": bool(values.ulimits),
            "exec.meta.linux.resources": self.constraints.metadata.resources is not None,
            "exec.meta.network": values.network != "sandbox",
            "exec.meta.security": values.security != "sandbox",
            "exec.meta.proxyenv": options.proxy is not None,
            "exec.meta.cdi": bool(options.devices),
            "exec.mount.selector": any(getattr(mount, "selector", "") for mount in mounts),
            "exec.mount.cache": bool(caches),
            "exec.mount.cache.sharing": bool(caches),
            "exec.mount.cache.content": any(
                getattr(mount, "content_cache", "default") != "default" for mount in mounts
            ),
            "exec.mount.tmpfs": bool(tmpfs),
            "exec.mount.tmpfs.size": any(mount.size_bytes > 0 for mount in tmpfs),
            "exec.mount.bind": bool(binds),
            "exec.mount.secret": bool(options.secrets),
            "exec.secretenv": any(secret.env for secret in options.secrets),
            "exec.mount.ssh": bool(options.ssh),
        }
        return {cap for cap, needed in needs.items() if needed}


def _places(root: Output | None, options: ExecOptions) -> list[_Place]:
    """Return root and mounts in the order of their targets, which numbers inputs and results."""
    places = [_Place(ROOT, None, root, not options.readonly_root)]
    for mount in options.mounts:
        source = None if isinstance(mount, TmpfsMount) or mount.source is None else mount.source.output
        writes = isinstance(mount, Mount) and not mount.readonly and not mount.no_output
        places.append(_Place(mount.target, mount, source, writes))
    places.sort(key=lambda place: place.target.encode())
    targets = [place.target for place in places]
    if "" in targets:
        raise OptionError("a mount has no target", hint="give the path inside the container, for example /src")
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice == ROOT:
        raise OptionError(
            "a mount has the target /", why="that is the root of the step", hint="run on that state instead"
        )
    if twice is not None:
        raise OptionError(f"two mounts have the target {twice!a}", why="one of them would hide the other")
    return places


def _choice(name: str, value: str, choices: Mapping[str, _Number]) -> _Number:
    if value not in choices:
        raise OptionError(f"{name} cannot be {value!a}", hint=f"one of {', '.join(choices)}")
    return choices[value]


def _meta(values: Values, options: ExecOptions) -> ops_pb2.Meta:
    env = dict(values.env)
    if options.ssh:
        env.setdefault("SSH_AUTH_SOCK", _ssh_target(0, options.ssh[0]))
    meta = ops_pb2.Meta(
        args=values.args,
        env=[f"{key}={value}" for key, value in env.items()],
        cwd=values.dir,
        user=values.user,
        hostname=values.hostname,
        cgroupParent=values.cgroup_parent,
        removeMountStubsRecursive=True,
        validExitCodes=values.valid_exit_codes,
        extraHosts=[ops_pb2.HostIP(Host=host, IP=address) for host, address in values.extra_hosts],
        ulimit=[ops_pb2.Ulimit(Name=name, Soft=soft, Hard=hard) for name, soft, hard in values.ulimits],
    )
    if options.proxy is not None:
        proxy = options.proxy
        meta.proxy_env.CopyFrom(
            ops_pb2.ProxyEnv(
                http_proxy=proxy.http_proxy,
                https_proxy=proxy.https_proxy,
                ftp_proxy=proxy.ftp_proxy,
                no_proxy=proxy.no_proxy,
                all_proxy=proxy.all_proxy,
            )
        )
    return meta


def _secret_mount(secret: Secret) -> ops_pb2.Mount:
    # An output of 0 instead of "none" is what Go's library writes here: both mean nothing for a secret.
    return ops_pb2.Mount(
        input=EMPTY,
        dest=secret.target or "",
        mountType=ops_pb2.SECRET,
        secretOpt=ops_pb2.SecretOpt(
            ID=secret.id, uid=secret.uid, gid=secret.gid, mode=secret.mode, optional=secret.optional
        ),
    )


def _ssh_mount(number: int, socket: SshSocket) -> ops_pb2.Mount:
    return ops_pb2.Mount(
        input=EMPTY,
        dest=_ssh_target(number, socket),
        mountType=ops_pb2.SSH,
        SSHOpt=ops_pb2.SSHOpt(ID=socket.id, uid=socket.uid, gid=socket.gid, mode=socket.mode, optional=socket.optional),
    )


def _ssh_target(number: int, socket: SshSocket) -> str:
    return socket.target or f"/run/buildkit/ssh_agent.{number}"
