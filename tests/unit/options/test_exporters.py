"""Exporters as the wire has them: attributes for the daemon, and never the path of an output."""

import io
from pathlib import Path

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import (
    DockerExporter,
    ImageExporter,
    LocalExporter,
    OciExporter,
    OutputDirectory,
    OutputFile,
    OutputLayout,
    OutputStream,
    RawExporter,
    TarExporter,
)

DEST = Path("/somewhere/private/out.tar")


def test_an_image_without_options_sends_nothing():
    exporter = ImageExporter()
    assert (exporter.type, exporter.to_attrs(), exporter.output) == ("image", {}, None)


def test_every_option_of_an_image_has_its_key():
    exporter = ImageExporter(
        name=["example.com/a:1", "example.com/a:2"],
        push=True,
        push_by_digest=True,
        insecure=True,
        store=False,
        compression="gzip",
        compression_level=0,
        force_compression=True,
        oci_media_types=False,
        oci_artifact=False,
        attestation_inline=False,
        prefer_nondist_layers=True,
        rewrite_timestamp=True,
        source_date_epoch=0,
        name_canonical=True,
        dangling_name_prefix="example.com/dangling",
        dangling_name_empty_only=True,
        annotations={"org.example.key": "v"},
        attrs={"new-in-2030": "x"},
    )
    assert exporter.to_attrs() == {
        "name": "example.com/a:1,example.com/a:2",
        "push": "true",
        "push-by-digest": "true",
        "registry.insecure": "true",
        "store": "false",
        "compression": "gzip",
        "compression-level": "0",
        "force-compression": "true",
        "oci-mediatypes": "false",
        "oci-artifact": "false",
        "attestation-inline": "false",
        "prefer-nondist-layers": "true",
        "rewrite-timestamp": "true",
        "source-date-epoch": "0",
        "name-canonical": "true",
        "dangling-name-prefix": "example.com/dangling",
        "danging-name-empty-only": "true",
        "annotation.org.example.key": "v",
        "new-in-2030": "x",
    }
    assert ImageExporter(unpack=True).to_attrs() == {"unpack": "true"}


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("org.example.key", "annotation.org.example.key"),
        ("annotations.example.com/key", "annotation.annotations.example.com/key"),
        ("annotation", "annotation.annotation"),
        ("annotation.key", "annotation.key"),
        ("annotation-index.key", "annotation-index.key"),
        ("annotation-manifest[linux/amd64].key", "annotation-manifest[linux/amd64].key"),
        ("annotation-manifest-descriptor.key", "annotation-manifest-descriptor.key"),
        ("annotation-index-descriptor.key", "annotation-index-descriptor.key"),
        ("annotation-other.key", "annotation.annotation-other.key"),
    ],
)
def test_annotations_go_where_their_key_says(key, sent):
    assert ImageExporter(annotations={key: "v"}).to_attrs() == {sent: "v"}
    assert OciExporter(dest=DEST, annotations={key: "v"}).to_attrs() == {sent: "v"}


def test_what_cannot_work_is_refused():
    with pytest.raises(OptionError, match="without a name") as caught:
        ImageExporter(push=True).to_attrs()
    assert caught.value.hint
    with pytest.raises(OptionError, match="without a name"):
        ImageExporter(name=[""], push=True).to_attrs()
    with pytest.raises(OptionError, match="comma"):
        ImageExporter(name="a,b").to_attrs()
    with pytest.raises(OptionError, match="comma"):
        OciExporter(dest=DEST, name=["a", "b,c"]).to_attrs()


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd", "oci_media_types": False},
        {"compression": "estargz", "oci_media_types": False},
        {"compression": "gzip", "compression_level": 10},
        {"compression_level": 10},
        {"compression": "estargz", "compression_level": -1},
        {"compression": "zstd", "compression_level": 23},
        {"compression": "uncompressed", "compression_level": 1},
        {"compression": "brotli"},
        {"oci_artifact": True, "oci_media_types": False},
        {"annotations": {"": "v"}},
        {"annotations": {"a key": "v"}},
        {"attrs": {"compresion": "zstd"}},
    ],
)
@pytest.mark.parametrize("kind", [ImageExporter, OciExporter, DockerExporter])
def test_what_an_image_cannot_have_is_refused(kind, options):
    with pytest.raises(OptionError):
        (kind(**options) if kind is ImageExporter else kind(dest=DEST, **options)).to_attrs()


@pytest.mark.parametrize(("compression", "highest"), [("", 9), ("gzip", 9), ("estargz", 9), ("zstd", 22)])
def test_levels_that_there_are(compression, highest):
    for level in (0, highest):
        attrs = ImageExporter(compression=compression, compression_level=level).to_attrs()
        assert attrs["compression-level"] == str(level)


def test_rewritten_times_and_unpacking_exclude_each_other():
    with pytest.raises(OptionError, match="unpacked"):
        ImageExporter(unpack=True, rewrite_timestamp=True).to_attrs()


def test_a_docker_archive_is_like_an_oci_one():
    exporter = DockerExporter(dest=DEST, name="app")
    assert (exporter.type, exporter.output, exporter.to_attrs()) == ("docker", OutputFile(DEST), {"name": "app"})
    assert DockerExporter(dest=OutputLayout(DEST)).to_attrs() == {"tar": "false"}


def test_files_go_into_a_directory():
    exporter = LocalExporter(dest=DEST)
    assert (exporter.type, exporter.output, exporter.to_attrs()) == ("local", OutputDirectory(DEST), {})
    full = LocalExporter(
        dest=DEST, mode="delete", platform_split=False, attestation_prefix="x-", source_date_epoch=0, attrs={"a": "b"}
    )
    assert full.to_attrs() == {
        "mode": "delete",
        "platform-split": "false",
        "attestation-prefix": "x-",
        "source-date-epoch": "0",
        "a": "b",
    }
    with pytest.raises(OptionError, match="mode"):
        LocalExporter(dest=DEST, mode="move").to_attrs()


def test_files_go_into_an_archive():
    stream = io.BytesIO()
    exporter = TarExporter(dest=OutputStream(stream), platform_split=True)
    assert (exporter.type, exporter.output) == ("tar", OutputStream(stream))
    assert exporter.to_attrs() == {"platform-split": "true"}
    assert TarExporter(dest=DEST).output == OutputFile(DEST)


def test_an_oci_result_goes_where_the_caller_says():
    assert OciExporter(dest=DEST).output == OutputFile(DEST)
    stream = io.BytesIO()
    assert OciExporter(dest=OutputStream(stream)).output == OutputStream(stream)
    layout = OciExporter(dest=OutputLayout(DEST), name="example.com/a", compression="estargz", source_date_epoch=7)
    assert layout.type == "oci"
    assert layout.output == OutputLayout(DEST)
    assert layout.to_attrs() == {
        "name": "example.com/a",
        "compression": "estargz",
        "source-date-epoch": "7",
        "tar": "false",
    }


@pytest.mark.parametrize("dest", [DEST, OutputFile(DEST), OutputLayout(DEST)])
def test_paths_stay_here(dest):
    assert "private" not in str(OciExporter(dest=dest, name="a").to_attrs())


def test_a_raw_exporter_passes_attributes_on_as_a_copy():
    exporter = RawExporter("local", {"mode": "delete"}, OutputDirectory(DEST))
    exporter.to_attrs()["dest"] = "x"
    assert (exporter.type, exporter.to_attrs()) == ("local", {"mode": "delete"})
    assert exporter.output == OutputDirectory(DEST)
    assert RawExporter("tar").output is None


def test_a_raw_exporter_is_checked_unless_told_otherwise():
    for kind, attrs in (("imge", {}), ("cacheonly", {}), ("image", {"pushh": "true"})):
        with pytest.raises(OptionError):
            RawExporter(kind, attrs).to_attrs()
        assert RawExporter(kind, attrs, unchecked=True).to_attrs() == attrs


def test_a_destination_may_be_a_text():
    assert LocalExporter(dest="out").output == OutputDirectory(Path("out"))
    assert TarExporter(dest="out.tar").output == OutputFile(Path("out.tar"))
    assert OciExporter(dest="out.tar").output == OutputFile(Path("out.tar"))


@pytest.mark.parametrize("kind", ["oci", "docker", "local", "tar"])
def test_a_raw_exporter_that_sends_needs_a_place_for_it(kind: str) -> None:
    with pytest.raises(OptionError, match="nothing takes it"):
        RawExporter(kind).to_attrs()
    assert RawExporter(kind, output=OutputDirectory(DEST)).to_attrs() == {}
    assert RawExporter(kind, unchecked=True).to_attrs() == {}


def test_a_raw_exporter_that_sends_nothing_takes_no_place() -> None:
    with pytest.raises(OptionError, match="sends nothing to us"):
        RawExporter("image", output=OutputDirectory(DEST)).to_attrs()
