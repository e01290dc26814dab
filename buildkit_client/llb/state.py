"""States: a file tree that a build will make, and what steps on it will see. The heart of writing builds in Python.

A state never changes. Every method returns another one, and nothing happens until the definition that
:meth:`State.marshal` gives is solved.

Reference: client/llb/state.go, State; client/llb/exec.go, ExecState.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.llb.combine import DiffOp, MergeOp
from buildkit_client.llb.constraints import ConstraintOptions, Constraints, read_platform, read_strings
from buildkit_client.llb.definition import Definition
from buildkit_client.llb.exec import ROOT, ExecOp, ExecOptions
from buildkit_client.llb.file import FileOp
from buildkit_client.llb.mounts import Mount, TmpfsMount
from buildkit_client.llb.values import Values
from buildkit_client.llb.vertex import Graph, Output
from buildkit_client.llb.words import split_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Unpack

    from buildkit_client.llb.exec import Network, Security
    from buildkit_client.llb.file import FileAction
    from buildkit_client.llb.mounts import CacheMount, CdiDevice, ProxyEnv, Secret, SshSocket
    from buildkit_client.oci.descriptor import Platform

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_CHARS = 25  # identity/randomid.go


class State:
    """A file tree in the making, with the environment that steps on it see.

    Made by :func:`image`, :func:`local`, :func:`git`, :func:`http`, :func:`oci_layout` and :func:`scratch`, and from
    other states. Compared by identity.

    Reference: client/llb/state.go, State.
    """

    __slots__ = ("_output", "_values")

    def __init__(self, output: Output | None = None, values: Values | None = None) -> None:
        self._output = output
        self._values = (values or Values()).with_platform(output.platform if output else None)

    @property
    def output(self) -> Output | None:
        """The place in the graph; None for an empty file tree."""
        return self._output

    @property
    def values(self) -> Values:
        """What steps on this state see."""
        return self._values

    def add_env(self, name: str, value: str) -> State:
        """Set an environment variable."""
        return self._with(self._values.with_env({name: value}))

    def get_env(self, name: str) -> str | None:
        """Return an environment variable; None when it is not set."""
        return dict(self._values.env).get(name)

    def dir(self, path: str) -> State:
        """Go to a directory, for steps and for relative paths of file operations; relative to the present one."""
        return self._with(self._values.with_dir(path))

    def get_dir(self) -> str:
        """Return the working directory."""
        return self._values.dir

    def user(self, user: str) -> State:
        """Run steps as a user: a name or number, with ``:group`` if wanted."""
        return self._with(replace(self._values, user=user))

    def hostname(self, hostname: str) -> State:
        """Run steps under a host name."""
        return self._with(replace(self._values, hostname=hostname))

    def network(self, network: Network) -> State:
        """Run steps in a network."""
        return self._with(replace(self._values, network=network))

    def security(self, security: Security) -> State:
        """Run steps with other rights."""
        return self._with(replace(self._values, security=security))

    def platform(self, platform: Platform | str) -> State:
        """Run steps on a platform."""
        return self._with(self._values.with_platform(read_platform(platform)))

    def add_extra_host(self, host: str, address: str) -> State:
        """Add a line to the ``/etc/hosts`` of steps."""
        return self._with(self._values.with_extra_host(host, address))

    def add_ulimit(self, name: str, soft: int, hard: int) -> State:
        """Set a limit of setrlimit(2) for steps, for example ``nofile``."""
        return self._with(replace(self._values, ulimits=(*self._values.ulimits, (name, soft, hard))))

    def with_cgroup_parent(self, cgroup_parent: str) -> State:
        """Run steps below a control group."""
        return self._with(replace(self._values, cgroup_parent=cgroup_parent))

    def with_image_config(self, config: bytes | str | Mapping[str, object]) -> State:
        """Take environment, working directory and platform from an image's config: its JSON, or what that says.

        Raises:
            OptionError: It is no image config.
        """
        return self._with(self._values.with_image_config(config))

    def run(
        self,
        command: str | Sequence[str] | None = None,
        *,
        shell: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        mounts: Iterable[Mount | CacheMount | TmpfsMount] = (),
        secrets: Iterable[Secret] = (),
        ssh: Iterable[SshSocket] = (),
        devices: Iterable[CdiDevice] = (),
        network: Network | None = None,
        security: Security | None = None,
        hostname: str | None = None,
        extra_hosts: Mapping[str, str] | None = None,
        ulimits: Mapping[str, tuple[int, int]] | None = None,
        cgroup_parent: str | None = None,
        valid_exit_codes: Sequence[int] = (),
        readonly_root: bool = False,
        proxy: ProxyEnv | None = None,
        **constraints: Unpack[ConstraintOptions],
    ) -> ExecState:
        """Run a process on this state. What is given here counts for this one step only.

        Args:
            command: The words; a single text is cut into words without a shell, as ``llb.Shlex`` does.
            shell: Instead of ``command``: a script for ``/bin/sh -c``.
            env: More environment variables.
            cwd: Another working directory, relative to the state's.
            user: Another user.
            mounts: See :class:`Mount`, :class:`CacheMount`, :class:`TmpfsMount`.
            secrets: See :class:`Secret`.
            ssh: See :class:`SshSocket`.
            devices: See :class:`CdiDevice`.
            network: Another network.
            security: Other rights.
            hostname: Another host name.
            extra_hosts: More addresses by host name.
            ulimits: More soft and hard limits by name.
            cgroup_parent: Another control group.
            valid_exit_codes: Codes that count as success; only 0 when empty.
            readonly_root: The step may change nothing but its mounts.
            proxy: See :class:`ProxyEnv`.
            **constraints: See :class:`ConstraintOptions`.

        Returns:
            The state after the step; its values are those of this state.

        Raises:
            OptionError: There is no command, or the mounts contradict each other.

        Reference: client/llb/state.go, State.Run.
        """
        values = replace(self._values, args=_read_command(command, shell)).with_env(env or {})
        values = values if cwd is None else values.with_dir(cwd)
        for host, address in (extra_hosts or {}).items():
            values = values.with_extra_host(host, address)
        values = replace(
            values,
            user=values.user if user is None else user,
            network=network or values.network,
            security=security or values.security,
            hostname=values.hostname if hostname is None else hostname,
            ulimits=values.ulimits + tuple((name, *limits) for name, limits in (ulimits or {}).items()),
            cgroup_parent=values.cgroup_parent if cgroup_parent is None else cgroup_parent,
            valid_exit_codes=tuple(valid_exit_codes),
        )
        options = ExecOptions(
            mounts=tuple(mounts),
            secrets=tuple(secrets),
            ssh=tuple(ssh),
            devices=tuple(devices),
            proxy=proxy,
            readonly_root=readonly_root,
        )
        return ExecState(self, ExecOp(self._output, values, options, Constraints.of(**constraints)), options)

    def file(self, action: FileAction, **constraints: Unpack[ConstraintOptions]) -> State:
        """Change files without running a process; a chain of actions is one operation.

        Args:
            action: From :func:`copy`, :func:`mkdir`, :func:`mkfile`, :func:`rm` or :func:`symlink`.
            **constraints: See :class:`ConstraintOptions`.

        Reference: client/llb/state.go, State.File.
        """
        return State(Output(FileOp(self, action, Constraints.of(**constraints))), self._values)

    def marshal(
        self, *, platform: Platform | str | None = None, require: Sequence[str] = (), local_unique_id: str = ""
    ) -> Definition:
        """Return the graph of this state in the daemon's form.

        Args:
            platform: For operations that say nothing else; this machine's when left out.
            require: Worker filters for all operations.
            local_unique_id: Sets :func:`local` directories without a session apart from those of other builds; random
                when empty, so give one where the digest matters.

        Raises:
            OptionError: A value does not fit the message, for example a number that is too large.

        Reference: client/llb/state.go, State.Marshal.
        """
        if self._output is None:
            return Definition(ops_pb2.Definition())
        base = Constraints(platform=read_platform(platform), require=read_strings("require", require))
        return Graph(base, local_unique_id or _new_id()).marshal(self._output)

    def _with(self, values: Values) -> State:
        return State._of(self._output, values)

    @classmethod
    def _of(cls, output: Output | None, values: Values) -> State:
        """Return a state whose values count as they are, also against the platform of its operation."""
        state = State(output)
        state._values = values
        return state


class ExecState(State):
    """The state after a step: its root, and through :meth:`get_mount` what its mounts became.

    Reference: client/llb/exec.go, ExecState.
    """

    __slots__ = ("_exec", "_options")

    def __init__(self, base: State, exec_op: ExecOp, options: ExecOptions) -> None:
        super().__init__(base.output if options.readonly_root else exec_op.output(ROOT), base.values)
        self._exec = exec_op
        self._options = options

    def root(self) -> State:
        """Return the root after the step, as a plain state."""
        return State._of(self._output, self._values)

    def get_mount(self, target: str) -> State:
        """Return what a mount became; a read-only one is what it was.

        Args:
            target: As it was given to ``run``.

        Returns:
            The state; its values are those of the mount's source.

        Raises:
            OptionError: There is no such mount, or nothing is kept of it.

        Reference: client/llb/exec.go, ExecState.AddMount, GetMount.
        """
        if target == ROOT:
            return self.root()
        mount = next((mount for mount in self._options.mounts if mount.target == target), None)
        if mount is None:
            targets = ", ".join(repr(mount.target) for mount in self._options.mounts) or "none"
            raise OptionError(f"the step has no mount at {target!a}", why=f"its mounts: {targets}")
        if not isinstance(mount, Mount) or mount.no_output:
            raise OptionError(
                f"nothing is kept of the mount at {target!a}",
                why="it is in memory, a cache, or marked no_output",
                hint="Mount(target, scratch()) gives a directory whose content is a result",
            )
        if mount.readonly:
            return State(mount.source.output, mount.source.values)
        return State(self._exec.output(target), mount.source.values)


def scratch() -> State:
    """Return an empty file tree.

    Reference: client/llb/source.go, Scratch.
    """
    return State()


def merge(inputs: Iterable[State], **constraints: Unpack[ConstraintOptions]) -> State:
    """Put file trees on top of each other, without copying.

    Args:
        inputs: The lowest first. Empty ones are left out; of a single one nothing has to be merged.
        **constraints: See :class:`ConstraintOptions`.

    Returns:
        The merged tree; its values are those of the lowest.

    Reference: client/llb/merge.go, Merge.
    """
    states = [state for state in inputs if state.output is not None]
    if len(states) < 2:
        return states[0] if states else scratch()
    outputs = [state.output for state in states if state.output is not None]
    return State(Output(MergeOp(outputs, Constraints.of(**constraints))), states[0].values)


def diff(lower: State, upper: State, **constraints: Unpack[ConstraintOptions]) -> State:
    """Return what one file tree has that another has not, for :func:`merge`.

    Args:
        lower: What is taken away.
        upper: What it is taken away from.
        **constraints: See :class:`ConstraintOptions`.

    Returns:
        The difference, with the values of ``lower``; ``upper`` itself when ``lower`` is empty.

    Reference: client/llb/diff.go, Diff.
    """
    if lower.output is None:
        return upper if upper.output is not None else scratch()
    return State(Output(DiffOp(lower.output, upper.output, Constraints.of(**constraints))), lower.values)


def _read_command(command: str | Sequence[str] | None, shell: str | None) -> tuple[str, ...]:
    if command is not None and shell is not None:
        raise OptionError("a step has two commands", why="both command and shell are given")
    if shell is not None:
        return ("/bin/sh", "-c", shell)
    return tuple(split_words(command) if isinstance(command, str) else command or ())


def _new_id() -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(_ID_CHARS))
