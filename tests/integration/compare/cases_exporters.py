"""Cases of the exporters: where a result goes and in which form."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.compare.case import EPOCH, Case, dockerfile
from tests.integration.compare.observe import Seen, tar_members
from tests.support.tree import Fifo, File, Folder, HardLink, Symlink, Tree

AREA = "exporters"

_TIMES: Tree = {
    # The last line makes the content new in each case and run: the daemon must not take another result, with its times.
    "Dockerfile": b"FROM scratch\nCOPY . /\n# {case}\n",
    "new": File(b"n", mode=0o4755, mtime_ns=1_600_000_000_123_456_789),
    "old": File(b"o", mode=0o444, mtime_ns=-1_000_000_001),
    "far": File(b"f", mode=0o600, mtime_ns=4_102_444_800_000_000_007),
    # With a time of its own, not that of the making. It is empty, and no other case has one of that name: the daemon
    # keeps its copy of buildctl's folders from case to case, and sets no time where only files in a folder change.
    "empty folder": Folder(),
    "inner": File(b"i", mode=0o1777),
    "pipe": Fifo(),
    "second name": HardLink(b"new"),
    "loop": Symlink(b"loop"),
    "name with \xc3\xa9 and \n".encode("latin-1"): b"odd",
}


def _image(attrs: str) -> str:
    return f"--no-cache --output type=image,name={{repo}}:1,push=true,{attrs}rewrite-timestamp=true"


def _oci(attrs: str, kind: str = "oci", name: str = "image.tar") -> str:
    return f"--no-cache --output type={kind},dest={{out}}/{name},{attrs}rewrite-timestamp=true"


def _pushed(seen: Seen) -> None:
    assert "1" in seen.registry
    assert seen.metadata["containerimage.digest"] == seen.registry["1"]


def _layers(kind: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert {one.removeprefix("application/vnd.") for one in seen.layers()} == {kind}

    return check


def _says(text: str) -> Callable[[Seen], None]:
    """The documents say a text."""

    def check(seen: Seen) -> None:
        assert text in str(seen.documents), seen.documents

    return check


def _has(*names: str) -> Callable[[Seen], None]:
    """There are such files."""

    def check(seen: Seen) -> None:
        assert set(names) <= set(seen.files), sorted(seen.files)

    return check


def _annotated(place: str, key: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        found = [document for name, document in seen.documents.items() if name.endswith(place)]
        assert any(key in str(document.get("annotations", "")) for document in found), seen.documents

    return check


def _extra_names(seen: Seen) -> None:
    assert {"1", "2", "three"} == set(seen.registry)
    assert len(set(seen.registry.values())) == 1


def _no_tag(seen: Seen) -> None:
    assert set(seen.registry) == {"by digest"}


def _kept(name: str, content: bytes) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert seen.files[name]["content"] == content

    return check


def _gone(seen: Seen) -> None:
    assert "tree/before" not in seen.files
    assert "tree/app/hello" in seen.files


def _still_there(seen: Seen) -> None:
    assert {"tree/before", "tree/app/hello"} <= set(seen.files)


def _stdout_image(seen: Seen) -> None:
    assert seen.documents


def _stdout_tar(seen: Seen) -> None:
    assert "app/hello" in [member[0] for member in tar_members(seen.stdout)]


def _nothing(seen: Seen) -> None:
    assert not seen.files
    assert not any("exporting" in name for name in seen.step_names)


def _both(seen: Seen) -> None:
    assert {"image.tar", "tree/app/hello", "files.tar"} <= set(seen.files)
    assert "1" in seen.registry


def _docker_types(seen: Seen) -> None:
    assert "application/vnd.docker.distribution.manifest.v2+json" in seen.media_types()


def _epoch(seen: Seen) -> None:
    (config,) = seen.named("/config")
    assert config["created"] == "2001-09-09T01:46:40Z"


def _files_epoch(seen: Seen) -> None:
    assert seen.files["tree/app/hello"]["mtime"] == EPOCH * 10**9


def _own_times(seen: Seen) -> None:
    assert seen.files["tree/new"]["mtime"] == 1_600_000_000_123_456_789


_LAYOUT = {"mode": "buildctl makes blobs read-only, even for who wrote them"}
_REPLACED = {
    "mode": "a new file takes the place of the old one, so that it is there whole or not at all",
    "content": "the other name keeps what it had",
    "twins": "as content",
}
_FOLDERS = {"mtime": "buildctl leaves folders that were there with the time of the transfer"}
_TWO = "--opt platform=linux/amd64,linux/arm64 "

CASES = [
    # image
    Case(name="image pushed", flags=_image(""), check=_pushed),
    Case(
        name="image, several names",
        flags=_image("").replace("name={repo}:1", '\\"name={repo}:1,{repo}:2,{repo}:three\\"'),
        check=_extra_names,
    ),
    Case(
        name="image, pushed by digest",
        flags=_image("push-by-digest=true,").replace("{repo}:1", "{repo}"),
        check=_no_tag,
    ),
    Case(name="image, docker media types", flags=_image("oci-mediatypes=false,"), check=_docker_types),
    Case(name="image, OCI media types", flags=_image("oci-mediatypes=true,"), check=_pushed),
    Case(
        name="image, uncompressed",
        flags=_image("compression=uncompressed,"),
        check=_layers("oci.image.layer.v1.tar"),
        needs="0.31",
    ),
    Case(
        name="image, zstd",
        flags=_image("compression=zstd,compression-level=19,"),
        check=_layers("oci.image.layer.v1.tar+zstd"),
        needs="0.31",
    ),
    Case(
        name="image, estargz",
        flags=_image("compression=estargz,"),
        check=_says("containerd.io/snapshot/stargz/toc.digest"),
    ),
    Case(
        name="image, base layers recompressed",
        files=dockerfile("FROM {base}\nCOPY hello /\n"),
        flags=_image("compression=zstd,force-compression=true,"),
        check=_layers("oci.image.layer.v1.tar+zstd"),
        needs="0.31",
    ),
    Case(
        name="image, unpacked",
        flags="--no-cache --output type=image,name={repo}:1,unpack=true",
        ignore={"metadata": "the image has times of its build"},
    ),
    Case(name="image, not stored", flags=_image("store=false,"), check=_pushed),
    Case(name="image, canonical name", flags=_image("name-canonical=true,"), check=_pushed),
    Case(name="image without a name", flags="--no-cache --output type=image,rewrite-timestamp=true"),
    Case(name="image, insecure registry", flags=_image("registry.insecure=true,"), check=_pushed),
    Case(name="image for two platforms", flags=_TWO + _image(""), check=_says("arm64")),
    Case(
        name="image to a registry with a password",
        flags="--no-cache --output type=image,name={htpasswd}/{name}:1,push=true,rewrite-timestamp=true",
        more={"docker/config.json": b"{login}"},
    ),
    Case(
        name="image to a registry with tokens",
        flags="--no-cache --output type=image,name={token}/{name}:1,push=true,rewrite-timestamp=true",
        more={"docker/config.json": b"{token_login}"},
    ),
    Case(
        name="image with TLS settings for tokens",
        flags="--registry-auth-tlscontext host={token},insecure=true --no-cache "
        "--output type=image,name={token}/{name}:1,push=true,rewrite-timestamp=true",
        more={"docker/config.json": b"{token_login}"},
    ),
    # annotations
    Case(
        name="annotation",
        flags=_oci("annotation.org.example.a=one-two,"),
        check=_annotated("/manifest0", "org.example.a"),
    ),
    Case(
        name="annotation of a manifest",
        flags=_oci("annotation-manifest.org.example.a=1,"),
        check=_annotated("/manifest0", "org.example.a"),
    ),
    Case(
        name="annotation of a manifest's descriptor",
        flags=_TWO + _oci("annotation-manifest-descriptor.org.example.a=1,"),
        check=_says("org.example.a"),
    ),
    Case(
        name="annotation of an index",
        flags=_TWO + _oci("annotation-index.org.example.a=1,"),
        check=_annotated("/manifest0", "org.example.a"),
    ),
    Case(
        name="annotation of an index's descriptor",
        flags=_TWO + _oci("annotation-index-descriptor.org.example.a=1,"),
        check=_says("org.example.a"),
    ),
    Case(
        name="annotation of one platform",
        flags=_TWO + _oci("annotation-manifest[linux/arm64].org.example.a=1,"),
        check=_says("org.example.a"),
    ),
    Case(
        name="annotation, pushed",
        flags=_image("annotation.org.example.a=1,annotation-manifest.org.example.b=2,"),
        check=_says("org.example.b"),
    ),
    # oci
    Case(name="oci", flags=_oci(""), check=_has("image.tar")),
    Case(name="oci, uncompressed", flags=_oci("compression=uncompressed,"), check=_layers("oci.image.layer.v1.tar")),
    Case(
        name="oci, gzip 1",
        flags=_oci("compression=gzip,compression-level=1,"),
        check=_layers("oci.image.layer.v1.tar+gzip"),
    ),
    Case(
        name="oci, gzip 9",
        flags=_oci("compression=gzip,compression-level=9,"),
        check=_layers("oci.image.layer.v1.tar+gzip"),
    ),
    Case(name="oci, zstd", flags=_oci("compression=zstd,"), check=_layers("oci.image.layer.v1.tar+zstd")),
    Case(name="oci, estargz", flags=_oci("compression=estargz,"), check=_says("stargz")),
    Case(name="oci, docker media types", flags=_oci("oci-mediatypes=false,"), check=_has("image.tar")),
    Case(
        name="oci, several names",
        flags=_oci("").replace("dest=", '\\"name=example.com/a:1,example.com/b:2\\",dest='),
        check=_says("example.com/b:2"),
    ),
    Case(name="oci with a short name", flags=_oci("name=app,"), check=_says("docker.io/library/app:latest")),
    Case(name="oci of two platforms", flags=_TWO + _oci(""), check=_says("arm64")),
    Case(name="oci of one platform as index", flags="--opt multi-platform=true " + _oci(""), check=_says("amd64")),
    Case(name="oci to standard output", flags=_oci("").replace("dest={out}/image.tar,", ""), check=_stdout_image),
    Case(name="oci to -", flags=_oci("").replace("{out}/image.tar", "-"), check=_stdout_image),
    Case(
        name="oci, names in quotes and capitals",
        flags='--output \'"TYPE=oci","Dest={out}/a,b.tar",rewrite-timestamp=true,annotation.a=b=c\'',
        check=_has("a,b.tar"),
    ),
    Case(name="oci, tar left empty", flags=_oci("tar=,"), check=_has("image.tar")),
    Case(
        name="oci over a file",
        more={"out/image.tar": File(b"before" * 99_999, mode=0o640)},
        flags=_oci(""),
        check=_says("layers"),
        ignore={"mode": _REPLACED["mode"]},
    ),
    Case(
        name="oci through a link",
        more={"out/real": b"before", "out/image.tar": Symlink(b"real")},
        flags=_oci(""),
        check=_has("real", "image.tar"),
        ignore={"mode": _REPLACED["mode"]},
    ),
    Case(
        name="oci over a hard link",
        more={"out/real": b"before", "out/image.tar": HardLink(b"out/real")},
        flags=_oci(""),
        check=_has("real"),
        ignore=_REPLACED,
    ),
    Case(
        name="oci layout",
        flags=_oci("tar=false,", name="layout"),
        check=_has("layout/oci-layout", "layout/index.json"),
        ignore=_LAYOUT,
    ),
    Case(
        name="oci layout with a name",
        flags=_oci("tar=false,name=example.com/app:v1,", name="layout"),
        check=_says("example.com/app:v1"),
        ignore=_LAYOUT,
    ),
    Case(
        name="oci layout of two platforms",
        flags=_TWO + _oci("tar=false,", name="layout"),
        check=_says("arm64"),
        ignore=_LAYOUT,
    ),
    Case(
        name="oci layout, zstd",
        flags=_oci("tar=false,compression=zstd,", name="layout"),
        check=_layers("oci.image.layer.v1.tar+zstd"),
        ignore=_LAYOUT,
    ),
    Case(
        name="oci layout, a second image",
        flags=_oci("tar=false,name=example.com/b:2,", name="layout"),
        before=(_oci("tar=false,name=example.com/a:1,", name="layout"),),
        check=_says("example.com/a:1"),
        ignore=_LAYOUT,
    ),
    Case(
        name="oci layout, other tool's layout",
        flags=_oci("tar=false,name=example.com/b:2,", name="layout"),
        before=(_oci("tar=false,name=example.com/a:1,", name="layout"),),
        before_by="other",
        check=_says("example.com/a:1"),
        ignore=_LAYOUT,
    ),
    # docker
    Case(name="docker", flags=_oci("name=example.com/app:v1,", "docker"), check=_says("manifest.json")),
    Case(name="docker without a name", flags=_oci("", "docker"), check=_has("image.tar")),
    Case(
        name="docker, OCI media types", flags=_oci("oci-mediatypes=true,name=a:1,", "docker"), check=_has("image.tar")
    ),
    Case(
        name="docker layout",
        flags=_oci("tar=false,name=example.com/app:v1,", "docker", "layout"),
        check=_has("layout/index.json"),
        ignore=_LAYOUT,
    ),
    Case(
        name="docker to standard output",
        flags=_oci("name=a:1,", "docker").replace("dest={out}/image.tar,", ""),
        check=_stdout_image,
    ),
    # local
    Case(name="local, epoch", flags="--output type=local,dest={tree}", check=_files_epoch),
    Case(name="local, own times", files=_TIMES, epoch=False, flags="--output type=local,dest={tree}", check=_own_times),
    Case(name="local, short flag", flags="-o type=local,dest={tree}", check=_has("tree/app/hello")),
    Case(
        name="local beside others",
        more={"out/tree/before": b"b"},
        flags="--output type=local,dest={tree}",
        check=_still_there,
    ),
    Case(
        name="local, mode=copy",
        more={"out/tree/before": b"b"},
        flags="--output type=local,mode=copy,dest={tree}",
        check=_still_there,
    ),
    Case(
        name="local, mode=delete",
        more={"out/tree/before": b"b", "out/tree/app/old/file": b"o"},
        flags="--output type=local,mode=delete,dest={tree}",
        check=_gone,
        ignore=_FOLDERS,
        needs="0.31",
    ),
    Case(
        name="local of two platforms",
        flags=_TWO + "--output type=local,dest={tree}",
        check=_has("tree/linux_arm64/app/hello"),
    ),
    Case(
        name="local, platform-split",
        flags="--output type=local,platform-split=true,dest={tree}",
        check=_has("tree/linux_amd64/app/hello"),
        needs="0.23",
    ),
    Case(
        name="local, not split",
        files=dockerfile("FROM scratch\nARG TARGETARCH\nCOPY hello /$TARGETARCH\n"),
        flags=_TWO + "--output type=local,platform-split=false,dest={tree}",
        check=_has("tree/amd64", "tree/arm64"),
    ),
    Case(
        name="local over a file",
        more={"out/tree/app/hello": File(b"before", mode=0o600)},
        flags="--output type=local,dest={tree}",
        check=_has("tree/app/hello"),
        ignore=_FOLDERS,
    ),
    Case(
        name="local over a link",
        more={"out/tree/app/hello": Symlink(b"../../elsewhere"), "out/elsewhere": b"e"},
        flags="--output type=local,dest={tree}",
        check=_kept("elsewhere", b"e"),
        ignore=_FOLDERS,
    ),
    Case(
        name="local into a linked folder",
        more={"out/real/x": b"x", "out/tree": Symlink(b"real")},
        flags="--output type=local,dest={tree}",
        check=_has("real/app/hello"),
    ),
    Case(
        name="local into folders that are not there",
        flags="--output type=local,dest={tree}/a/b",
        check=_has("tree/a/b/app/hello"),
        ignore={"mode": "folders above the output are as the umask wants them", "mtime": "they are new"},
    ),
    Case(
        name="local, a whole image",
        files=dockerfile("FROM {base}\nCOPY hello /\n"),
        flags="--output type=local,dest={tree}",
        check=_has("tree/bin/busybox"),
    ),
    # tar
    Case(name="tar", flags="--output type=tar,dest={out}/files.tar", check=_has("files.tar")),
    Case(
        name="tar, own times",
        files=_TIMES,
        epoch=False,
        flags="--output type=tar,dest={out}/files.tar",
        check=_has("files.tar"),
    ),
    Case(name="tar to standard output", flags="--output type=tar", check=_stdout_tar),
    Case(name="tar of two platforms", flags=_TWO + "--output type=tar,dest=-"),
    Case(name="tar, platform-split", flags="--output type=tar,platform-split=true,dest=-"),
    # several, none, times
    Case(
        name="several exporters at once",
        flags=_image("")
        + " --output type=oci,dest={out}/image.tar,rewrite-timestamp=true --output type=local,dest={tree}"
        " --output type=tar,dest={out}/files.tar",
        ignore={"files": "folders that a step makes have its time"},
        check=_both,
    ),
    Case(
        name="two of a kind",
        flags=_oci("") + " --output type=oci,dest={out}/second.tar,compression=zstd,rewrite-timestamp=true",
        check=_has("image.tar", "second.tar"),
    ),
    Case(name="no exporter", flags="--no-cache", check=_nothing),
    Case(name="source-date-epoch", flags=_oci("source-date-epoch=1000000000,"), check=_epoch),
    Case(
        name="SOURCE_DATE_EPOCH as a build argument",
        flags="--opt build-arg:SOURCE_DATE_EPOCH=1000000000 " + _oci(""),
        check=_epoch,
    ),
    Case(
        name="times as they are",
        epoch=False,
        loose="all",
        flags="--output type=oci,tar=false,dest={out}/layout",
        check=_has("layout/index.json"),
        ignore=_LAYOUT,
    ),
    Case(name="an attribute of its own", flags=_oci("org.example.mine=1,"), check=_has("image.tar")),
]
