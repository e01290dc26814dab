"""Exporters as the wire has them: attributes for the daemon, and never the path of an output."""

import io
from pathlib import Path

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import (
    ImageExporter,
    OciExporter,
    OutputDirectory,
    OutputFile,
    OutputLayout,
    OutputStream,
    RawExporter,
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
        unpack=True,
        store=False,
        compression="zstd",
        compression_level=0,
        force_compression=True,
        oci_media_types=False,
        rewrite_timestamp=True,
        source_date_epoch=0,
        annotations={"org.example.key": "v"},
        attrs={"name-canonical": "true"},
    )
    assert exporter.to_attrs() == {
        "name": "example.com/a:1,example.com/a:2",
        "push": "true",
        "push-by-digest": "true",
        "registry.insecure": "true",
        "unpack": "true",
        "store": "false",
        "compression": "zstd",
        "compression-level": "0",
        "force-compression": "true",
        "oci-mediatypes": "false",
        "rewrite-timestamp": "true",
        "source-date-epoch": "0",
        "annotation.org.example.key": "v",
        "name-canonical": "true",
    }


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
