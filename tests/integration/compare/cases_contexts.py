"""Cases of the contexts: where a build's files come from."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.compare.case import Case, dockerfile
from tests.integration.compare.observe import Seen

AREA = "contexts"

_LOCAL = " --output type=local,dest={tree}"
_REMOTE = "--frontend dockerfile.v0 --opt context="
_FROM_BASE = dockerfile("FROM base AS b\nFROM scratch\nCOPY --from=b /in-layout /\n")
_NAMED = dockerfile("FROM scratch\nCOPY --from=files f /f\nCOPY hello /hello\n")


def _made(*names: str, **contents: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        found = {name.removeprefix("tree/") for name in seen.files if name.startswith("tree/")}
        assert {*names, *contents} <= found, found
        for name, content in contents.items():
            assert seen.text(f"tree/{name}") == content

    return check


CASES = [
    Case(
        name="named folder",
        files=_NAMED,
        more={"files/f": b"named"},
        flags="--local files={arm}/files --opt context:files=local:files" + _LOCAL,
        check=_made(f="named"),
    ),
    Case(
        name="named folder in place of the context",
        files=_NAMED,
        more={"files/f": b"f", "files/hello": b"h"},
        flags="--local files={arm}/files --opt context:files=local:files --opt context:context=local:files" + _LOCAL,
        check=_made(f="f"),
    ),
    Case(
        name="named folder with an ignore file",
        files=dockerfile("FROM scratch\nCOPY --from=files . /\n"),
        more={"files/f": b"f", "files/g": b"g", "files/.dockerignore": b"g\n"},
        flags="--local files={arm}/files --opt context:files=local:files" + _LOCAL,
        check=_made("f"),
    ),
    Case(
        name="named image",
        files=dockerfile("FROM alpine AS b\nFROM scratch\nCOPY --from=b /bin/busybox /\n"),
        flags="--opt context:alpine=docker-image://{base}" + _LOCAL,
        check=_made("busybox"),
    ),
    Case(
        name="named image for a platform",
        files=dockerfile("FROM alpine AS b\nFROM scratch\nCOPY --from=b /bin/busybox /\n"),
        flags="--opt context:alpine::linux/amd64=docker-image://{base}" + _LOCAL,
        check=_made("busybox"),
    ),
    Case(
        name="layout",
        files=_FROM_BASE,
        flags="--oci-layout store={layout} --opt context:base=oci-layout://store@{layout_digest}" + _LOCAL,
        check=_made("in-layout"),
    ),
    Case(
        name="layout with a tag",
        files=_FROM_BASE,
        flags="--oci-layout store={layout} --opt context:base=oci-layout://store:v1@{layout_digest}" + _LOCAL,
        check=_made("in-layout"),
    ),
    Case(
        name="layouts, exported again",
        files=_FROM_BASE,
        flags="--oci-layout a={layout} --oci-layout store={layout} "
        "--opt context:base=oci-layout://store@{layout_digest} "
        "--output type=oci,dest={out}/image.tar",
    ),
    Case(name="git over http", files=None, flags=_REMOTE + "{http}/app.git" + _LOCAL, check=_made(hello="second")),
    Case(name="git with a tag", files=None, flags=_REMOTE + "{http}/app.git#v1" + _LOCAL, check=_made(hello="first")),
    Case(
        name="git with a branch and a folder",
        files=None,
        flags=_REMOTE + "{http}/app.git#other:sub" + _LOCAL,
        check=_made("s/Dockerfile"),
    ),
    Case(
        name="git with a query",
        files=None,
        flags=_REMOTE + "'{http}/app.git?ref=v1&subdir=sub'" + _LOCAL,
        check=_made("s/Dockerfile"),
        needs="0.24",
    ),
    Case(
        name="git with a checksum",
        files=None,
        flags=_REMOTE + "'{http}/app.git?tag=v1&checksum={commit}'" + _LOCAL,
        check=_made(hello="first"),
        needs="0.24",
    ),
    Case(
        name="git by its own protocol",
        files=None,
        flags=_REMOTE + "{git}/app.git" + _LOCAL,
        check=_made(hello="second"),
    ),
    Case(
        name="git by its own protocol, a tag",
        files=None,
        flags=_REMOTE + "{git}/app.git#refs/tags/v1" + _LOCAL,
        check=_made(hello="first"),
    ),
    Case(
        name="git and its folder",
        files=None,
        flags=_REMOTE + "{git}/app.git --opt build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR=1" + _LOCAL,
        check=_made(".git/HEAD"),
        ignore={"files": "git writes times into its folder"},
    ),
    Case(
        name="git and our Dockerfile",
        files=None,
        more={"df/Dockerfile": b"FROM scratch\nCOPY hello /ours\n"},
        flags=_REMOTE + "{http}/app.git --local dockerfile={arm}/df --opt dockerfilekey=dockerfile" + _LOCAL,
        check=_made(ours="second"),
    ),
    Case(
        name="named git",
        files=dockerfile("FROM scratch\nCOPY --from=repo hello /\n"),
        flags="--opt context:repo={http}/app.git#v1" + _LOCAL,
        check=_made(hello="first"),
    ),
    Case(
        name="archive over http",
        files=None,
        flags=_REMOTE + "{http}/app.tar.gz" + _LOCAL,
        check=_made(hello="from an archive"),
    ),
    Case(
        name="Dockerfile over http", files=None, flags=_REMOTE + "{http}/Alone --output type=oci,dest={out}/image.tar"
    ),
    Case(
        name="named file over http",
        files=dockerfile("FROM scratch\nCOPY --from=page context /page\n"),
        flags="--opt context:page={http}/page" + _LOCAL,
        check=_made(page="page"),
        needs="0.30",
    ),
    Case(
        name="ADD from http and git",
        files=dockerfile("FROM scratch\nADD {http}/page /page\nADD {http}/app.git#v1 /repo\n"),
        flags=_LOCAL,
        check=_made("page", "repo/hello"),
    ),
    Case(
        name="context and Dockerfile elsewhere",
        files=None,
        more={"a/hello": b"a", "b/Dockerfile": b"FROM scratch\nCOPY hello /\n"},
        flags="--frontend dockerfile.v0 --local context={arm}/a --local dockerfile={arm}/b" + _LOCAL,
        check=_made(hello="a"),
    ),
    Case(
        name="current folder",
        files=None,
        more={"Dockerfile": b"FROM scratch\nCOPY here /\n", "here": b"here"},
        flags="--frontend dockerfile.v0 --local context=. --local dockerfile=." + _LOCAL,
        check=_made(here="here"),
    ),
]
