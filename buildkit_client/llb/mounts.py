"""What ``run`` puts into a step's container: file trees, caches, memory, secrets, agents, devices.

Reference: client/llb/exec.go, MountOption, AddSecret, AddSSHSocket, AddCDIDevice, ProxyEnv.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from buildkit_client.llb.state import State

Sharing = Literal["shared", "private", "locked"]
"""Who may use a cache directory at the same time: all, each build its own, one after the other."""

ContentCache = Literal["default", "on", "off"]
"""Whether a step counts as known when the content of a mount is the same, however it was made."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A state seen at a path; what the step changes there is a result of its own, see :meth:`ExecState.get_mount`.

    Attributes:
        target: Where it is mounted.
        source: What is mounted; :func:`scratch` for an empty directory whose content is wanted afterwards.
        selector: Path inside the source that is mounted; all of it when empty.
        readonly: The step may not change it.
        no_output: The step may change it, and the changes are thrown away.
        content_cache: See :data:`ContentCache`.

    Reference: client/llb/exec.go, AddMount, SourcePath, Readonly, ForceNoOutput, ContentCache.
    """

    target: str
    source: State
    selector: str = ""
    readonly: bool = False
    no_output: bool = False
    content_cache: ContentCache = "default"


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that stays on the builder between builds.

    Attributes:
        target: Where it is mounted.
        id: Mounts with the same id use the same directory.
        sharing: See :data:`Sharing`.
        source: What a new directory starts with; None for nothing.
        selector: Path inside the source.
        readonly: The step may not change it.

    Reference: client/llb/exec.go, AsPersistentCacheDir.
    """

    target: str
    id: str
    sharing: Sharing = "shared"
    source: State | None = None
    selector: str = ""
    readonly: bool = False

    def __post_init__(self) -> None:
        if not self.id:
            raise OptionError(
                f"the cache at {self.target!a} has no id", hint="mounts with the same id share a directory"
            )


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """A directory in memory, empty at the start and gone at the end of the step.

    Attributes:
        target: Where it is mounted.
        size_bytes: The limit; 0 for the system's.

    Reference: client/llb/exec.go, Tmpfs, TmpfsSize.
    """

    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of the session, as file, as environment variable or both; it is in no layer and no cache key.

    Attributes:
        id: What the session serves it under.
        target: Path of the file; None for no file.
        env: Name of the variable; None for none.
        uid: Owner of the file.
        gid: Group of the file.
        mode: Permission bits of the file.
        optional: Whether the step runs without it when the session has none.

    Reference: client/llb/exec.go, AddSecretWithDest, SecretAsEnvName, SecretFileOpt.
    """

    id: str
    target: str | None = None
    env: str | None = None
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False

    def __post_init__(self) -> None:
        if not self.id:
            raise OptionError("a secret has no id", hint="the id is the name under which the session serves it")
        if not self.target and not self.env:
            raise OptionError(
                f"the step cannot see the secret {self.id!a}",
                why="neither target nor env is given",
                hint=f"for example target='/run/secrets/{self.id}'",
            )


@dataclass(frozen=True, slots=True)
class SshSocket:
    """A socket that leads to an SSH agent of the session; ``SSH_AUTH_SOCK`` names the first one.

    Attributes:
        id: What the session serves the agent under; empty for ``default``.
        target: Path of the socket; empty for one below ``/run/buildkit``.
        uid: Owner of the socket.
        gid: Group of the socket.
        mode: Permission bits of the socket.
        optional: Whether the step runs without it when the session has none.

    Reference: client/llb/exec.go, AddSSHSocket, SSHSocketOpt.
    """

    id: str = ""
    target: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@dataclass(frozen=True, slots=True)
class CdiDevice:
    """A device of the builder's machine, by its Container Device Interface name.

    Attributes:
        name: For example ``vendor.com/device=name``.
        optional: Whether the step runs without it.

    Reference: client/llb/exec.go, AddCDIDevice.
    """

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEnv:
    """Proxy settings that a step sees but that change no cache key; addresses are not shown, they may hold logins.

    Reference: client/llb/exec.go, ProxyEnv, WithProxy.
    """

    http_proxy: str = field(default="", repr=False)
    https_proxy: str = field(default="", repr=False)
    ftp_proxy: str = field(default="", repr=False)
    no_proxy: str = ""
    all_proxy: str = field(default="", repr=False)
