"""Files that nobody should import: each ends with one clear error, quickly, and leaves everything as it was."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from buildkit_client.oci import ImageLayout
from tests.support.convox_cli import run
from tests.support.exports import NAMELESS_FOLDER, export_file, oci_archive, plain_export, record
from tests.support.images import add_image, add_index
from tests.support.tars import END, file, files, header, padded, pax, tar

CPU_SECONDS = 2.0  # one is promised; the machine may be busy
MEMORY_MB = 64

RECORD = file("build.json", record())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good image, as an OCI archive."""
    return oci_archive(ImageLayout.create(tmp_path_factory.mktemp("layout")))


def image(archive: bytes) -> bytes:
    return file("web.BAAAAAAAAAA.tar", archive)


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Return the files of an OCI archive."""
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive)) as tape:
        return {member.name: stream.read() for member in tape.getmembers() if (stream := tape.extractfile(member))}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def descriptor(data: bytes, kind: str = "image.manifest.v1+json", **fields: object) -> dict[str, object]:
    return {
        "mediaType": f"application/vnd.oci.{kind}",
        "digest": f"sha256:{digest(data)}",
        "size": len(data),
        **fields,
    }


def layout_with(*entries: dict[str, object], blobs: tuple[bytes, ...] = ()) -> bytes:
    """Return an OCI archive with an index of those entries."""
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return files(
        [
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", index),
            *((f"blobs/sha256/{digest(blob)}", blob) for blob in blobs),
        ]
    )


CONFIG = b'{"architecture":"amd64","os":"linux"}'


def manifest(*layers: dict[str, object]) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "config": descriptor(CONFIG, "image.config.v1+json"), "layers": layers}
    ).encode()


def with_layer(data: bytes, kind: str = "image.layer.v1.tar", **fields: object) -> bytes:
    """Return an OCI archive of an image with one layer, whose descriptor has some fields changed."""
    document = manifest(descriptor(data, kind, **fields))
    return layout_with(descriptor(document), blobs=(CONFIG, document, data))


def nested(depth: int) -> bytes:
    """Return an OCI archive of an index in an index in an index."""
    document = manifest()
    blobs, entry = [CONFIG, document], descriptor(document)
    for _ in range(depth):
        document = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        blobs.append(document)
        entry = descriptor(document, "image.index.v1+json")
    return layout_with(entry, blobs=tuple(blobs))


def outer(*extra: bytes) -> Callable[[bytes], bytes]:
    """Return what makes a good export with more members, in front of the others."""
    return lambda archive: export_file(*extra, RECORD, image(archive))


def inner(make: bytes | Callable[[], bytes]) -> Callable[[bytes], bytes]:
    return lambda _: export_file(RECORD, image(make if isinstance(make, bytes) else make()))


def with_record(**fields: object) -> Callable[[bytes], bytes]:
    return lambda archive: plain_export(archive, **fields)


def raw_record(data: bytes) -> Callable[[bytes], bytes]:
    return lambda archive: export_file(file("build.json", data), image(archive))


NAMES = {
    "up": "../x.tar",
    "absolute": "/etc/x.tar",
    "up in the middle": "a/../../x.tar",
    "a drive": "C:\\x.tar",
    "a backslash": "a\\..\\x.tar",
    "5000 bytes": "x" * 5000 + ".tar",
    "not UTF-8": b"\xff\xfe.tar",
    "no service": ".tar",
    "dots": "...tar",
    "a folder": "a/b.tar",
    "upper case": "Web.BAAAAAAAAAA.tar",
    "a digit first": "1web.BAAAAAAAAAA.tar",
    "an escape": "\x1b[2J.tar",
}

SPECIAL = {
    "a symlink, then a file through it": (header("web", kind=b"2", target=b"/etc"), file("web/x.tar", b"")),
    "an absolute symlink": (header("web.B.tar", kind=b"2", target=b"/etc/passwd"),),
    "50 symlinks": tuple(header(f"l{n}", kind=b"2", target=b"l%d" % (n + 1)) for n in range(50)),
    "a relative hard link": (header("web.B.tar", kind=b"1", target=b"../../etc/passwd"),),
    "an absolute hard link": (header("web.B.tar", kind=b"1", target=b"/etc/passwd"),),
    "a character device": (header("web.B.tar", kind=b"3"),),
    "a block device": (header("web.B.tar", kind=b"4"),),
    "a pipe": (header("web.B.tar", kind=b"6"),),
    "a socket": (header("web.B.tar", kind=b"s"),),
    "a sparse file": (header("web.B.tar", 512, kind=b"S") + bytes(512),),
    "a sparse file in pax": (pax({"GNU.sparse.major": "1"}), file("web.B.tar", b"x")),
    "a huge size in pax": (pax({"size": str(1 << 62)}), file("web.B.tar", b"x")),
    "a size in pax that is none": (pax({"size": "-1"}), file("web.B.tar", b"x")),
    "a negative size": (header("web.B.tar", b"\xff" * 12),),
    "a huge size": (header("web.B.tar", b"\x80" + b"\xff" * 11),),
    "a link past PATH_MAX": (header("././@LongLink", 8000, kind=b"K") + padded(b"a/" * 4000), header("l", kind=b"2")),
    "a huge pax header": (header("PaxHeaders/x", 10 << 20, kind=b"x") + bytes(10 << 20),),
    "two records": (RECORD,),
    "two records, one with a dot": (file("./build.json", record()),),
    "two logs": (file("build.log", b"1"), file("build.log", b"2")),
    "a record that is a link": (header("build.json", kind=b"2", target=b"/etc/passwd"),),
}

RECORDS = {
    "not JSON": raw_record(b"{"),
    "empty": raw_record(b""),
    "not UTF-8": raw_record(b'{"description": "\xff"}'),
    "a list": raw_record(b"[]"),
    "a text": raw_record(b'"build"'),
    "100 MB": raw_record(b'{"description": "' + bytes(100_000_000).replace(b"\0", b"x") + b'"}'),
    "depth 10,000": raw_record(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "depth 10,000 of lists": raw_record(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "a huge number": raw_record(b'{"a":' + b"9" * 10_000 + b"}"),
    "not a number": raw_record(b'{"a": NaN}'),
    "a number for a text": with_record(description=1),
    "a list for a text": with_record(manifest=[]),
    "an object for a text": with_record(entrypoint={}),
    "an id with a slash": with_record(id="../../x"),
    "an id with a zero": with_record(id="B\0A"),
    "an app with a slash": with_record(app="a/b"),
    "a release with a slash": with_record(release="R/.."),
    "a time out of range": with_record(started="2026-13-01T00:00:00Z"),
    "a time that is none": with_record(ended="yesterday"),
    "a year of five digits": with_record(ended="10000-01-01T00:00:00Z"),
    "a zero in a text": with_record(description="a\0b"),
    "a text of a MB": with_record(description="x" * 1_000_000),
    "a manifest of 2 MB": with_record(manifest="#" * 2_000_000),
    "images that are a list": with_record(images=["web"]),
    "images without digests": with_record(images={"web": 1}),
    "an image digest that leads outside": with_record(images={"web": "sha256:../../x"}),
    "a manifest of aliases": with_record(
        manifest="a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join('*' + chr(97 + n) for _ in range(9))}]\n" for n in range(8)
        )
        + "services:\n  web: {}\n"
    ),
    "a manifest of depth 10,000": with_record(manifest="services: " + "[" * 10_000),
}

OTHER_MANIFEST = manifest(descriptor(b"x", "image.layer.v1.tar"))

LAYOUTS = {
    "not a tar": b"hello" * 1000,
    "empty": b"",
    "an empty tar": tar(),
    "no image": layout_with(),
    "two images": lambda: layout_with(
        descriptor(manifest()), descriptor(OTHER_MANIFEST), blobs=(CONFIG, manifest(), OTHER_MANIFEST, b"x")
    ),
    "no version": files([("index.json", b'{"schemaVersion":2,"manifests":[]}')]),
    "another version": files([("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'), ("index.json", b"{}")]),
    "an index that is not JSON": files([("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", b"{")]),
    "a digest that leads outside": layout_with(descriptor(b"", digest="sha256:../../../../etc/passwd")),
    "a short digest": layout_with(descriptor(b"", digest="sha256:" + "0" * 63)),
    "an upper-case digest": layout_with(descriptor(b"", digest="sha256:" + "A" * 64)),
    "an unknown algorithm": layout_with(descriptor(b"", digest="md5:" + "0" * 32)),
    "a file name that is no digest": tar(
        file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), file("blobs/sha256/x", b"")
    ),
    "a missing blob": layout_with(descriptor(manifest()), blobs=(manifest(),)),
    "a missing manifest": layout_with(descriptor(manifest()), blobs=(CONFIG,)),
    "a negative size": layout_with(descriptor(manifest(), size=-1), blobs=(CONFIG, manifest())),
    "a manifest larger than it says": layout_with(descriptor(manifest(), size=1), blobs=(CONFIG, manifest())),
    "a manifest smaller than it says": layout_with(descriptor(manifest(), size=9999), blobs=(CONFIG, manifest())),
    "a layer larger than it says": with_layer(b"data", size=3),
    "a layer smaller than it says": with_layer(b"data", size=5),
    "gzip announced, zstd inside": with_layer(zstandard.compress(b"x"), "image.layer.v1.tar+gzip"),
    "zstd announced, gzip inside": with_layer(gzip.compress(b"x"), "image.layer.v1.tar+zstd"),
    "nested 50 deep": lambda: nested(50),
    "an index of 20 MB": lambda: files(
        [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", b" " * 20_000_000)]
    ),
    "docker's old schema": layout_with(
        {**descriptor(b"{}"), "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, blobs=(b"{}",)
    ),
    "a symlink in it": lambda: tar(
        file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        file("index.json", json.dumps({"schemaVersion": 2, "manifests": [descriptor(manifest())]}).encode()),
        header("blobs/sha256/" + digest(manifest()), kind=b"2", target=b"/etc/passwd"),
    ),
    "a file that leads outside": tar(file("../../x", b"x")),
    "two blobs of one name": lambda: tar(
        file("blobs/sha256/" + digest(b"x"), b"x"), file("blobs/sha256/" + digest(b"x"), b"x")
    ),
}


def flipped(position: Callable[[int], int]) -> Callable[[bytes], bytes]:
    """Return what makes an export in which one bit of the largest blob is another."""

    def make(archive: bytes) -> bytes:
        blob = max((data for name, data in unpacked(archive).items() if name.startswith("blobs/")), key=len)
        start = archive.index(blob)
        at = start + position(len(blob))
        return export_file(RECORD, image(archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]))

    return make


FLIPPED = {
    "a bit at the start": flipped(lambda size: 12),
    "a bit in the middle": flipped(lambda size: size // 2),
    "a bit at the end": flipped(lambda size: size - 1),
}


def gzip_bomb(head: bytes = b"") -> bytes:
    """Return gzip of ten gigabytes of zeros behind some bytes, in ten megabytes; its checksum is never reached."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, zlib.DEFLATED, -15)
    return start + (again.compress(bytes(1 << 20)) + again.flush(zlib.Z_FULL_FLUSH)) * 10_240


def zstd_frame(window_log: int) -> bytes:
    """Return the head of a zstd frame that asks for a window of 2**window_log bytes."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + b"\x02\x00\x00x" * 1000


def bomb_member(name: str) -> bytes:
    """Return an export in which one member is a bomb."""
    return gzip_bomb(RECORD + header(name, 10 << 30))


BOMBS = {
    "zeros": lambda _: gzip_bomb(),
    "an image of zeros": lambda _: bomb_member("web.B.tar"),
    "a log of zeros": lambda _: bomb_member("build.log"),
    "an unknown file of zeros": lambda _: bomb_member("README"),
    "a zstd window of 2 GiB": lambda _: zstd_frame(31),
    "a zstd window of 256 MiB": lambda _: zstd_frame(28),
    "a million entries": lambda _: gzip.compress(header("x") * 200_000),
    "a million different entries": lambda archive: gzip.compress(
        b"".join(header(f"f{n}") for n in range(20_000)) * 10, compresslevel=1
    ),
    "100,000 nested folders": lambda _: gzip.compress(
        b"".join(header("a/" * 40 + f"{n}", kind=b"5") for n in range(100_000)), compresslevel=1
    ),
    "many files in an image": lambda _: export_file(RECORD, image(tar(*(file(f"f{n}", b"x") for n in range(20_000))))),
    "many folders in an image": lambda _: export_file(
        RECORD, image(tar(*(header(f"d{n}", kind=b"5") for n in range(50_000))))
    ),
    "many links in an image": lambda _: export_file(
        RECORD, image(tar(*(header(f"l{n}", kind=b"2", target=b"x") for n in range(50_000))))
    ),
}

SHAPES = {
    "nothing": lambda _: b"",
    "a picture": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "only zeros": lambda _: bytes(10_000)[:9999],
    "no record": lambda archive: export_file(image(archive)),
    "no image": lambda _: export_file(RECORD),
    "an empty tar": lambda _: export_file(),
    "no end mark": lambda archive: export_file(RECORD, image(archive), end=b""),
    "half an end mark": lambda archive: export_file(RECORD, image(archive), end=bytes(512)),
    "garbage after the end mark": lambda archive: export_file(RECORD, image(archive), end=END + b"garbage" * 100),
    "garbage after gzip": lambda archive: export_file(RECORD, image(archive)) + b"garbage",
    "garbage after zstd": lambda archive: zstandard.compress(tar(RECORD, image(archive))) + b"garbage",
    "garbage after plain tar": lambda archive: tar(RECORD, image(archive)) + b"garbage",
    "a second tar in a second gzip member": lambda archive: export_file(RECORD, image(archive)) * 2,
    "gzip in gzip": lambda archive: gzip.compress(export_file(RECORD, image(archive))),
    "two images of a service": lambda archive: export_file(
        RECORD, file("web.BAAAAAAAAAA.tar", archive), file("web.BBBBBBBBBBB.tar", archive)
    ),
    "an image of a service that is not in the manifest": lambda archive: export_file(
        RECORD, image(archive), file("api.BAAAAAAAAAA.tar", archive)
    ),
    "a wrong checksum": lambda archive: export_file(header("build.json", checksum=1)),
}

CASES: dict[str, Callable[[bytes], bytes]] = {
    **{f"name: {name}": outer(file(text, b"x")) for name, text in NAMES.items()},
    "name: a zero": outer(pax({"path": "a\0/x.tar"}), file("x", b"")),
    **{f"member: {name}": outer(*extra) for name, extra in SPECIAL.items()},
    **{f"record: {name}": make for name, make in RECORDS.items()},
    **{f"image: {name}": inner(make) for name, make in LAYOUTS.items()},
    **{f"image: {name}": make for name, make in FLIPPED.items()},
    **{f"bomb: {name}": make for name, make in BOMBS.items()},
    **{f"file: {name}": make for name, make in SHAPES.items()},
}


@pytest.fixture
def place(config_path: Path, tmp_path: Path) -> Path:
    """A folder with an export to write, beside files that must stay as they are."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.tar").write_bytes(b"keep me")
    return tmp_path


def tree(path: Path) -> dict[str, tuple[int, int]]:
    """Return what lies in a folder: mode and size by name; of the records only that they are there."""
    found = {}
    for folder, names, file_names in os.walk(path):
        for name in (*names, *file_names):
            status = os.lstat(Path(folder) / name)
            found[str(Path(folder, name).relative_to(path))] = (status.st_mode, status.st_size)
    return {name: what for name, what in found.items() if "/store.db" not in name}


@pytest.mark.parametrize("case", CASES)
def test_bad_files(case: str, place: Path, archive: bytes) -> None:
    export = place / "export.tgz"
    export.write_bytes(CASES[case](archive))
    assert run("builds", "import", "-f", os.devnull).code == 1  # makes the rack's folders
    before = tree(place)
    started = time.process_time()
    result = run("builds", "import", "-f", str(export))
    seconds = time.process_time() - started
    assert_refused(result.code, result.stdout, result.stderr)
    assert tree(place) == before
    assert run("builds").code == 1  # the app is not even there
    assert seconds < CPU_SECONDS


def assert_refused(code: int, stdout: bytes, stderr: bytes) -> None:
    assert code == 1
    assert stdout == b"Importing build... "
    lines = stderr.decode().splitlines()
    assert lines[0].startswith("ERROR: ")
    assert "unexpected" not in lines[0]
    assert all(line.startswith(("  why: ", "  try: ", "       ")) for line in lines[1:])
    assert len(stderr) < 2000
    assert b"\x1b" not in stderr


def test_memory_stays_flat(place: Path, archive: bytes) -> None:
    """In a process of its own, since this one has grown with every test before."""

    def peak_mb(data: bytes) -> float:
        export = place / "export.tgz"
        export.write_bytes(data)
        # The peak that a parent sees of its child includes what the child was before it became another program.
        script = (
            "import sys; from convox.cli.app import main; main(sys.argv[1:]);print(open('/proc/self/status').read())"
        )
        words = [sys.executable, "-c", script, "builds", "import", "-f", str(export)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stderr.startswith("ERROR: ")
        found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
        assert found is not None
        return int(found[1]) / 1024

    least = peak_mb(b"")
    for case in (
        "bomb: a log of zeros",
        "bomb: an image of zeros",
        "bomb: a zstd window of 2 GiB",
        "bomb: many files in an image",
        "record: 100 MB",
    ):
        assert peak_mb(CASES[case](archive)) - least < MEMORY_MB, case


@pytest.mark.parametrize("packing", ["gzip", "zstd", "none"])
def test_files_cut_short(packing: str, place: Path, archive: bytes) -> None:
    plain = gzip.decompress(plain_export(archive))
    pack = {"gzip": gzip.compress, "zstd": zstandard.compress, "none": bytes}[packing]
    whole = pack(plain)
    export = place / "export.tgz"
    for percent in range(100):
        export.write_bytes(whole[: len(whole) * percent // 100])
        result = run("builds", "import", "-f", str(export))
        assert_refused(result.code, result.stdout, result.stderr)
    assert run("builds").code == 1
    export.write_bytes(whole)
    assert run("builds", "import", "-f", str(export)).code == 0


def test_any_flipped_bit_of_a_packed_file_is_noticed_or_harmless(place: Path, archive: bytes) -> None:
    """What comes through was not changed: gzip has a checksum, and headers carry no content."""
    whole = plain_export(archive)
    export = place / "export.tgz"
    refused = 0
    for at in range(20, len(whole), len(whole) // 60):
        export.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        result = run("builds", "import", "-f", str(export))
        refused += result.code == 1
        if result.code:
            assert_refused(result.code, result.stdout, result.stderr)
    assert refused > 50


def test_a_cycle_of_indexes_is_refused(place: Path, tmp_path: Path) -> None:
    """A real cycle would need a hash collision, so an index that names itself has a wrong digest as well."""
    entry = descriptor(b"", "image.index.v1+json", digest="sha256:" + "0" * 64)
    document = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    data = export_file(RECORD, image(layout_with(descriptor(document, "image.index.v1+json"), blobs=(document,))))
    (place / "export.tgz").write_bytes(data)
    result = run("builds", "import", "-f", str(place / "export.tgz"))
    assert_refused(result.code, result.stdout, result.stderr)


def test_the_good_file_that_all_others_are_made_of(place: Path, archive: bytes) -> None:
    export = place / "export.tgz"
    export.write_bytes(export_file(RECORD, NAMELESS_FOLDER, image(archive)))
    result = run("builds", "import", "-f", str(export))
    assert result.code == 0
    assert result.stderr.startswith(b"4 blobs sent (")
    assert re.fullmatch(rb"Importing build\.\.\. OK, R[A-Z]{10}\n", result.stdout)


def test_an_index_of_an_image_is_taken(place: Path, tmp_path: Path) -> None:
    layout = ImageLayout.create(tmp_path / "layout")
    nested_index = add_index(layout, add_index(layout, add_image(layout)))
    (place / "export.tgz").write_bytes(plain_export(oci_archive(layout, nested_index)))
    assert run("builds", "import", "-f", str(place / "export.tgz")).code == 0
