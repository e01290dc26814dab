"""Cases of graphs on standard input, written by our ``llb`` package and by Go's."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.compare.case import Case
from tests.integration.compare.observe import Seen

AREA = "graphs"

_LOCAL = "--output type=local,dest={tree}"


def _made(**contents: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        for name, content in contents.items():
            assert seen.text(f"tree/{name}") == content

    return check


def _case(name: str, stdin: str, flags: str, check: Callable[[Seen], None] | None = None, **values: object) -> Case:
    return Case(name=name, stdin=stdin, files=None, flags=flags, check=check, **values)  # type: ignore[arg-type]


CASES = [
    _case("files", "{files}", _LOCAL),
    _case("files as an image", "{files}", "--no-cache --output type=oci,dest={out}/image.tar,rewrite-timestamp=true"),
    _case("files, pushed", "{files}", "--no-cache --output type=image,name={repo}:1,push=true,rewrite-timestamp=true"),
    _case("files without the cache", "{files}", "--no-cache"),
    _case(
        "a folder of ours",
        "{local}",
        "--local src={arm}/src " + _LOCAL,
        _made(copied="mine"),
        more={"src/hello": b"mine"},
    ),
    _case("a step", "{run}", "--no-cache " + _LOCAL, _made(foo="bar")),
    _case("a merge", "{merge}", _LOCAL, _made(a="a", b="b")),
    _case("a difference", "{diff}", _LOCAL, _made(new="new")),
    _case(
        "with provenance",
        "{files}",
        "--opt attest:provenance=mode=max --output type=oci,dest={out}/image.tar",
        loose="all",
    ),
    _case(
        "with a cache",
        "{local}",
        "--local src={arm}/src --export-cache type=local,dest={out}/cache,mode=max",
        more={"src/hello": b"mine"},
        ignore={"mode": "buildctl makes blobs read-only, even for who wrote them"},
        own_daemon=True,
        loose="undated",
    ),
    _case("of Go: a directory", "{go mkdir}", _LOCAL),
    _case("of Go: a merge", "{go merge}", _LOCAL),
    _case("of Go: a difference", "{go diff-from-scratch}", "--output type=tar"),
    _case(
        "of Go: stages",
        "{go multi-stage}",
        "--local context={arm}/src " + _LOCAL,
        more={"src/a.txt": b"a", "src/b.txt": b"b"},
        needs="0.19",
    ),
    _case("of Go: a secret that is not given", "{go secret-file-only}", _LOCAL, error="not found"),
    _case("of Go: a folder that is not given", "{go local}", _LOCAL, error="no local sources enabled"),
]
