"""Changes of files without a process: copy, mkdir, mkfile, rm, symlink, and chains of them in one operation.

``mkdir("/a").copy(app, "/bin", "/a")`` is a chain. Paths that are not absolute start at the working directory of the
state that the chain is used on; owners given by name are looked up in that state, too.

Reference: client/llb/fileop.go.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict, Unpack

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.llb import go_path
from buildkit_client.llb.constraints import read_strings
from buildkit_client.llb.vertex import EMPTY, Graph, Output, Vertex, no_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_client.llb.constraints import Constraints, Metadata
    from buildkit_client.llb.state import State

Owner = str | tuple[int, int]
"""``user``, ``user:group`` with names or numbers, or user and group ids."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_ID = 2**31 - 1
_KEEP = -1  # client/llb/fileop.go: no time, no mode


class FileOptions(TypedDict, total=False):
    """What every action that makes something takes.

    Attributes:
        owner: Owner of what is made; root, and for a copy the owner it had, when left out.
        created_time: Time of what is made; when left out, the time of the build, and for a copy the time it had.
    """

    owner: Owner
    created_time: datetime


class MkdirOptions(FileOptions, total=False):
    """Keywords of :func:`mkdir`.

    Attributes:
        mode: Permission bits, 0o755 when left out.
        make_parents: Make missing parents too, and accept a directory that is there.
    """

    mode: int
    make_parents: bool


class MkfileOptions(FileOptions, total=False):
    """Keywords of :func:`mkfile`.

    Attributes:
        mode: Permission bits, 0o644 when left out.
    """

    mode: int


class RmOptions(TypedDict, total=False):
    """Keywords of :func:`rm`.

    Attributes:
        allow_not_found: A path that is not there is no error.
        allow_wildcard: The path may hold ``*``, ``?`` and ``[]``.
    """

    allow_not_found: bool
    allow_wildcard: bool


class CopyOptions(FileOptions, total=False):
    """Keywords of :func:`copy`.

    Attributes:
        mode: Permission bits, or a text as chmod takes it, for example ``u=rwX,go=rX``; left out keeps the mode.
        follow_symlinks: Copy what a link named by the source path points to.
        copy_dir_contents_only: Copy what is in the source directory, not the directory.
        include_patterns: Copy only what matches.
        exclude_patterns: Leave out what matches.
        required_paths: Paths that must be there in spite of the patterns.
        attempt_unpack: Unpack a source that is an archive.
        create_dest_path: Make missing parents of the destination.
        allow_wildcard: The source path may hold ``*``, ``?`` and ``[]``.
        allow_empty_wildcard: Wildcards that match nothing are no error.
        always_replace_existing_dest_paths: Replace a file by a directory and the other way round.
    """

    mode: int | str
    follow_symlinks: bool
    copy_dir_contents_only: bool
    include_patterns: Sequence[str]
    exclude_patterns: Sequence[str]
    required_paths: Sequence[str]
    attempt_unpack: bool
    create_dest_path: bool
    allow_wildcard: bool
    allow_empty_wildcard: bool
    always_replace_existing_dest_paths: bool


class _Step(ABC):
    """One action, not yet tied to a state."""

    @abstractmethod
    def fill(self, action: ops_pb2.FileAction, directory: str, base: int, /) -> None:
        """Write the action.

        Args:
            action: The message.
            directory: Where relative paths start.
            base: Position of the input whose users and groups count.
        """


class FileAction:
    """A chain of changes; never changes itself, each method returns a longer one.

    Reference: client/llb/fileop.go, FileAction.
    """

    __slots__ = ("_steps",)

    def __init__(self, steps: tuple[_Step, ...]) -> None:
        self._steps = steps

    def copy(self, source: State | BoundFiles, src: str, dest: str, **options: Unpack[CopyOptions]) -> FileAction:
        """Then copy, see :func:`copy`."""
        return self._then(copy(source, src, dest, **options))

    def mkdir(self, path: str, **options: Unpack[MkdirOptions]) -> FileAction:
        """Then make a directory, see :func:`mkdir`."""
        return self._then(mkdir(path, **options))

    def mkfile(self, path: str, data: bytes | str, **options: Unpack[MkfileOptions]) -> FileAction:
        """Then write a file, see :func:`mkfile`."""
        return self._then(mkfile(path, data, **options))

    def rm(self, path: str, **options: Unpack[RmOptions]) -> FileAction:
        """Then remove, see :func:`rm`."""
        return self._then(rm(path, **options))

    def symlink(self, target: str, path: str, **options: Unpack[FileOptions]) -> FileAction:
        """Then make a symbolic link, see :func:`symlink`."""
        return self._then(symlink(target, path, **options))

    def with_state(self, state: State) -> BoundFiles:
        """Return what the chain makes of a state, to copy from it within the same operation.

        Reference: client/llb/fileop.go, FileAction.WithState.
        """
        return BoundFiles(self._steps, state)

    def _then(self, action: FileAction) -> FileAction:
        return FileAction(self._steps + action._steps)


@dataclass(frozen=True, eq=False)
class BoundFiles:
    """A chain of changes on a state: a source for :func:`copy`. Compared by identity.

    Attributes:
        steps: The changes.
        state: What they start from.
    """

    steps: tuple[_Step, ...]
    state: State

    def outputs(self) -> list[Output]:
        """Return what the chain uses, in the order in which the definition lists it: last action first.

        Reference: client/llb/fileop.go, FileAction.allOutputs.
        """
        outputs: list[Output] = []
        for step in reversed(self.steps):
            if self.state.output is not None:
                outputs.append(self.state.output)
            if isinstance(step, _Copy):
                source = step.source
                if isinstance(source, BoundFiles):
                    outputs.extend(source.outputs())
                elif source.output is not None:
                    outputs.append(source.output)
        return outputs


class FileOp(Vertex):
    """A chain of changes as one operation; it has one result.

    Reference: client/llb/fileop.go, FileOp.Marshal.
    """

    def __init__(self, state: State, action: FileAction, constraints: Constraints) -> None:
        self.constraints = constraints.with_caps("file.base")
        self._files = action.with_state(state)

    def inputs(self) -> list[Output]:
        """Return the state that is changed and the states that are copied from."""
        return self._files.outputs()

    def fill(self, op: ops_pb2.Op, graph: Graph, /) -> Metadata:
        """Write all actions; only the last one has an output."""
        no_platform(op)
        placed: list[_Placed] = []
        _place(self._files, op, graph, placed, {})
        inputs = len(op.inputs)
        for number, action in enumerate(placed, 1):
            message = op.file.actions.add(
                input=action.main.index(inputs),
                secondaryInput=action.second.index(inputs),
                output=0 if number == len(placed) else EMPTY,
            )
            action.step.fill(message, action.directory, action.base)
        return self.constraints.metadata


@dataclass(frozen=True, slots=True)
class _Source:
    """What an action reads: an input of the operation, or the result of an earlier action."""

    position: int = EMPTY
    is_action: bool = False

    def index(self, inputs: int) -> int:
        """Return the number on the wire, where results of actions count behind all inputs."""
        return self.position + inputs if self.is_action else self.position


@dataclass(frozen=True, slots=True)
class _Placed:
    step: _Step
    directory: str
    base: int
    main: _Source
    second: _Source = field(default_factory=_Source)


def _place(
    files: BoundFiles, op: ops_pb2.Op, graph: Graph, placed: list[_Placed], done: dict[BoundFiles, _Source]
) -> _Source:
    """Number the inputs and actions of a chain, and of the chains that it copies from, which come first.

    Reference: client/llb/fileop.go, marshalState.add.
    """
    if files in done:
        return done[files]
    previous: _Source | None = None
    for step in files.steps:
        base = EMPTY if files.state.output is None else graph.add_input(op, files.state.output)
        second = _Source()
        if isinstance(step, _Copy):
            if isinstance(step.source, BoundFiles):
                second = _place(step.source, op, graph, placed, done)
            elif step.source.output is not None:
                second = _Source(graph.add_input(op, step.source.output))
        placed.append(_Placed(step, files.state.get_dir(), base, previous or _Source(base), second))
        previous = _Source(len(placed) - 1, is_action=True)
    done[files] = previous or _Source()
    return done[files]


@dataclass(frozen=True, kw_only=True)
class _Made(_Step):
    """What actions that make something have in common."""

    owner: Owner | None = None
    created_time: datetime | None = None

    def __post_init__(self) -> None:
        if self.created_time is not None and self.created_time.tzinfo is None:
            raise OptionError("created_time has no time zone", hint="for example datetime(2024, 1, 1, tzinfo=UTC)")
        if self.owner is not None:
            _read_owner(self.owner, EMPTY)

    def _owner(self, base: int) -> ops_pb2.ChownOpt | None:
        return None if self.owner is None else _read_owner(self.owner, base)

    def _timestamp(self) -> int:
        if self.created_time is None:
            return _KEEP
        return (self.created_time - _EPOCH) // timedelta(microseconds=1) * 1000


@dataclass(frozen=True)
class _Mkdir(_Made):
    path: str
    mode: int = 0o755
    make_parents: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_mode(self.mode, 0o777)

    def fill(self, action: ops_pb2.FileAction, directory: str, base: int, /) -> None:
        action.mkdir.CopyFrom(
            ops_pb2.FileActionMkDir(
                path=go_path.absolute(directory, self.path),
                mode=self.mode,
                makeParents=self.make_parents,
                owner=self._owner(base),
                timestamp=self._timestamp(),
            )
        )


@dataclass(frozen=True)
class _Mkfile(_Made):
    path: str
    data: bytes = field(repr=False)
    mode: int = 0o644

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_mode(self.mode, 0o777)

    def fill(self, action: ops_pb2.FileAction, directory: str, base: int, /) -> None:
        action.mkfile.CopyFrom(
            ops_pb2.FileActionMkFile(
                path=go_path.absolute(directory, self.path),
                mode=self.mode,
                data=self.data,
                owner=self._owner(base),
                timestamp=self._timestamp(),
            )
        )


@dataclass(frozen=True)
class _Symlink(_Made):
    target: str
    path: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path.startswith("/"):
            raise OptionError(
                f"a symbolic link needs an absolute path, not {self.path!a}",
                why="the daemon reads it from /, whatever the working directory is",
            )

    def fill(self, action: ops_pb2.FileAction, _directory: str, base: int, /) -> None:
        action.symlink.CopyFrom(
            ops_pb2.FileActionSymlink(
                oldpath=self.target, newpath=self.path, owner=self._owner(base), timestamp=self._timestamp()
            )
        )


@dataclass(frozen=True)
class _Rm(_Step):
    path: str
    allow_not_found: bool = False
    allow_wildcard: bool = False

    def fill(self, action: ops_pb2.FileAction, directory: str, _base: int, /) -> None:
        action.rm.CopyFrom(
            ops_pb2.FileActionRm(
                path=go_path.absolute(directory, self.path),
                allowNotFound=self.allow_not_found,
                allowWildcard=self.allow_wildcard,
            )
        )


@dataclass(frozen=True)
class _Copy(_Made):
    source: State | BoundFiles
    src: str
    dest: str
    mode: int | str | None = None
    follow_symlinks: bool = False
    copy_dir_contents_only: bool = False
    include_patterns: Sequence[str] = ()
    exclude_patterns: Sequence[str] = ()
    required_paths: Sequence[str] = ()
    attempt_unpack: bool = False
    create_dest_path: bool = False
    allow_wildcard: bool = False
    allow_empty_wildcard: bool = False
    always_replace_existing_dest_paths: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("include_patterns", "exclude_patterns", "required_paths"):
            read_strings(name, getattr(self, name))
        if isinstance(self.mode, int):
            _check_mode(self.mode, 0o7777)

    def fill(self, action: ops_pb2.FileAction, directory: str, base: int, /) -> None:
        action.copy.CopyFrom(
            ops_pb2.FileActionCopy(
                src=self._src(),
                dest=go_path.absolute(directory, self.dest, keep_slash=True),
                owner=self._owner(base),
                mode=_KEEP if self.mode is None else 0 if isinstance(self.mode, str) else self.mode,
                modeStr=self.mode if isinstance(self.mode, str) else "",
                followSymlink=self.follow_symlinks,
                dirCopyContents=self.copy_dir_contents_only,
                attemptUnpackDockerCompatibility=self.attempt_unpack,
                createDestPath=self.create_dest_path,
                allowWildcard=self.allow_wildcard,
                allowEmptyWildcard=self.allow_empty_wildcard,
                timestamp=self._timestamp(),
                include_patterns=self.include_patterns,
                exclude_patterns=self.exclude_patterns,
                required_paths=self.required_paths,
                alwaysReplaceExistingDestPaths=self.always_replace_existing_dest_paths,
            )
        )

    def _src(self) -> str:
        """Return the source path, which starts at the source's working directory.

        Reference: client/llb/fileop.go, fileActionCopy.sourcePath.
        """
        state = self.source.state if isinstance(self.source, BoundFiles) else self.source
        path = go_path.clean(self.src)
        return go_path.join("/" if path.startswith("/") else state.get_dir(), path)


def copy(source: State | BoundFiles, src: str, dest: str, **options: Unpack[CopyOptions]) -> FileAction:
    """Copy a file or directory of another state.

    Args:
        source: The state, or a chain with :meth:`FileAction.with_state`.
        src: Path in the source.
        dest: Path where it goes; "/" at the end means into that directory.
        **options: See :class:`CopyOptions`.

    Reference: client/llb/fileop.go, Copy, CopyInfo.
    """
    return FileAction((_Copy(source, src, dest, **options),))


def mkdir(path: str, **options: Unpack[MkdirOptions]) -> FileAction:
    """Make a directory.

    Args:
        path: Where.
        **options: See :class:`MkdirOptions`.

    Reference: client/llb/fileop.go, Mkdir.
    """
    return FileAction((_Mkdir(path, **options),))


def mkfile(path: str, data: bytes | str, **options: Unpack[MkfileOptions]) -> FileAction:
    """Write a file.

    Args:
        path: Where.
        data: Its content; a text is written as UTF-8.
        **options: See :class:`MkfileOptions`.

    Reference: client/llb/fileop.go, Mkfile.
    """
    return FileAction((_Mkfile(path, data.encode() if isinstance(data, str) else data, **options),))


def rm(path: str, **options: Unpack[RmOptions]) -> FileAction:
    """Remove a file, or a directory with everything in it.

    Args:
        path: What.
        **options: See :class:`RmOptions`.

    Reference: client/llb/fileop.go, Rm.
    """
    return FileAction((_Rm(path, **options),))


def symlink(target: str, path: str, **options: Unpack[FileOptions]) -> FileAction:
    """Make a symbolic link.

    Args:
        target: What it points to; stays as it is.
        path: The link, absolute.
        **options: See :class:`FileOptions`.

    Reference: client/llb/fileop.go, Symlink.
    """
    return FileAction((_Symlink(target, path, **options),))


def _check_mode(mode: int, allowed: int) -> None:
    if mode & ~allowed:
        raise OptionError(f"not a mode: {mode:#o}", why=f"only the bits {allowed:#o} can be set here")


def _read_owner(owner: Owner, base: int) -> ops_pb2.ChownOpt:
    """Return the wire message; names are looked up in the files of the input ``base``.

    Reference: client/llb/fileop.go, WithUser, WithUIDGID, ChownOpt.marshal.
    """
    user, group = owner.partition(":")[::2] if isinstance(owner, str) else map(str, owner)
    message = ops_pb2.ChownOpt(user=_read_user(user, base))
    if group:
        message.group.CopyFrom(_read_user(group, base))
    return message


def _read_user(name: str, base: int) -> ops_pb2.UserOpt:
    if name in ("", "root"):
        return ops_pb2.UserOpt(byID=0)
    if re.fullmatch(r"-\d+", name, re.ASCII):
        raise OptionError(f"not a user or group: {name}", why="ids are not negative")
    if re.fullmatch(r"\d+", name, re.ASCII) and int(name) <= _MAX_ID:
        return ops_pb2.UserOpt(byID=int(name))
    return ops_pb2.UserOpt(byName=ops_pb2.NamedUserOpt(name=name, input=base))
