"""What a frontend's contexts want served or sent beside its attributes."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from buildkit_client._proto import ops_pb2
    from buildkit_client.options.local_directory import LocalDirectory


@dataclass(frozen=True, slots=True)
class InputFile:
    """A tree with one file in it, sent along with the build's request (a frontend input).

    Attributes:
        name: The file's path.
        data: Its content.
    """

    name: str
    data: bytes = field(repr=False)

    def to_proto(self) -> ops_pb2.Definition:
        """Return the graph that makes the file and its folders: one operation, and the vertex that names its output.

        Reference: client/llb/fileop.go, Mkfile; client/llb/state.go, Marshal.
        """
        import hashlib  # noqa: PLC0415  # needed by the fewest builds

        from buildkit_client._proto import ops_pb2 as pb  # noqa: PLC0415  # protobuf is slow to import

        path = posixpath.normpath(f"/{self.name}")
        folder = posixpath.dirname(path)
        mkfile = pb.FileActionMkFile(path=path, mode=0o644, data=self.data, timestamp=-1)
        actions = [pb.FileAction(input=-1, secondaryInput=-1, output=0, mkfile=mkfile)]
        if folder != "/":
            mkdir = pb.FileActionMkDir(path=folder, mode=0o755, makeParents=True, timestamp=-1)
            actions.insert(0, pb.FileAction(input=-1, secondaryInput=-1, output=-1, mkdir=mkdir))
            actions[1].input = 0  # the first action's result, for the operation has no inputs
        made = pb.Op(file=pb.FileOp(actions=actions)).SerializeToString(deterministic=True)
        digest = f"sha256:{hashlib.sha256(made).hexdigest()}"
        head = pb.Op(inputs=[pb.Input(digest=digest, index=0)]).SerializeToString(deterministic=True)
        definition = pb.Definition()
        getattr(definition, "def").extend([made, head])  # "def" is a word of Python's
        # The daemon takes a graph without metadata for none at all.
        definition.metadata[digest].caps["file.base"] = True
        return definition


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a build's client must serve for the build's contexts.

    Attributes:
        local_dirs: Directory by the name that the build asks for.
        layouts: OCI image layout's folder by the name in ``oci-layout://NAME``.
        uploads: Stream by the id in ``http://buildkit-session/ID``; each is read once.
        inputs: Frontend input by name, for the request.
    """

    local_dirs: Mapping[str, Path | LocalDirectory] = field(default_factory=dict)
    layouts: Mapping[str, Path] = field(default_factory=dict)
    uploads: Mapping[str, BinaryIO] = field(default_factory=dict, repr=False)
    inputs: Mapping[str, InputFile] = field(default_factory=dict)

    def __or__(self, other: Needs) -> Needs:
        """Return what both need."""
        return Needs(
            local_dirs={**self.local_dirs, **other.local_dirs},
            layouts={**self.layouts, **other.layouts},
            uploads={**self.uploads, **other.uploads},
            inputs={**self.inputs, **other.inputs},
        )
