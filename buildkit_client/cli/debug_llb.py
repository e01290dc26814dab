"""``debug dump-llb``: shows the operations of a build definition, as JSON lines or as a graph for Graphviz.

Reference: cmd/buildctl/debug/dumpllb.go.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from buildkit_client._proto import ops_pb2
from buildkit_client.cli.console import EXIT_OK, CommandError, write_out
from buildkit_client.cli.go_messages import go_message
from buildkit_client.cli.go_values import Record, go_json, go_quote
from buildkit_client.errors import BuildKitError
from buildkit_client.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_client.cli.flags import Invocation


def run_dump_llb(invocation: Invocation) -> int:
    """Print the operations of a definition that a file or standard input holds."""
    name = invocation.arguments[0] if invocation.arguments else "-"
    data = Path(name).read_bytes() if name not in ("", "-") else sys.stdin.buffer.read()
    try:
        definition = ops_pb2.Definition.FromString(data)
    except DecodeError as exc:
        raise CommandError(BuildKitError("the input is no LLB definition"), "") from exc
    try:
        ops = [(Digest.of(one), ops_pb2.Op.FromString(one)) for one in getattr(definition, "def")]
    except DecodeError as exc:
        raise CommandError(BuildKitError("failed to parse op"), "") from exc
    lines = dot_lines(ops) if invocation.is_set("dot") else json_lines(ops, definition)
    write_out("".join(f"{line}\n" for line in lines))
    return EXIT_OK


def json_lines(ops: list[tuple[Digest, ops_pb2.Op]], definition: ops_pb2.Definition) -> Iterator[str]:
    """An object for each operation: what it does, its digest, and what is said about it."""
    for digest, op in ops:
        metadata = definition.metadata[digest] if digest in definition.metadata else ops_pb2.OpMetadata()
        fields = (
            ("Op", "Op", go_message(op)),
            ("Digest", "Digest", str(digest)),
            ("OpMetadata", "OpMetadata", go_message(metadata)),
        )
        yield go_json(Record(fields), escapes_html=True)


def dot_lines(ops: list[tuple[Digest, ops_pb2.Op]]) -> Iterator[str]:
    """A graph in Graphviz's language."""
    yield "digraph {"
    for digest, op in ops:
        label, shape = _label(digest, op)
        yield f"  {go_quote(digest)} [label={go_quote(label)} shape={go_quote(shape)}];"
    for digest, op in ops:
        mounts = op.exec.mounts if op.WhichOneof("op") == "exec" else ()
        for number, source in enumerate(op.inputs):
            labels = [mount.dest for mount in mounts if mount.input == number and mount.dest != "/"]
            label = labels[-1] if labels else ""
            yield f"  {go_quote(source.digest)} -> {go_quote(digest)} [label={go_quote(label)}];"
    yield "}"


def _label(digest: Digest, op: ops_pb2.Op) -> tuple[str, str]:
    match op.WhichOneof("op"):
        case "source":
            return op.source.identifier, "ellipse"
        case "exec":
            return " ".join(op.exec.meta.args), "box"
        case "build":
            return "build", "box3d"
        case "merge":
            return "merge", "invtriangle"
        case "diff":
            return "diff", "doublecircle"
        case "file":
            return ",".join(_action_label(action) for action in op.file.actions), "note"
    return digest, "plaintext"


def _action_label(action: ops_pb2.FileAction) -> str:
    match action.WhichOneof("action"):
        case "copy":
            return f"copy{{src={action.copy.src}, dest={action.copy.dest}}}"
        case "mkfile":
            return f"mkfile{{path={action.mkfile.path}}}"
        case "mkdir":
            return f"mkdir{{path={action.mkdir.path}}}"
        case "rm":
            return f"rm{{path={action.rm.path}}}"
        case "symlink":
            return f"symlink{{oldpath={action.symlink.oldpath}, newpath={action.symlink.newpath}}}"
    return ""
