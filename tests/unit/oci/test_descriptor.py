from __future__ import annotations

import json
from typing import Any

import pytest

from buildkit_client.errors import ImageFormatError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest

DIGEST = Digest.of(b"abc")
PLAIN: dict[str, Any] = {"mediaType": media_types.OCI_LAYER, "digest": str(DIGEST), "size": 3}
FULL: dict[str, Any] = {
    **PLAIN,
    "urls": ["https://example.com/blob"],
    "annotations": {"a": "b", "c": "d"},
    "data": "YWJj",
    "platform": {
        "architecture": "arm",
        "os": "linux",
        "os.version": "10",
        "os.features": ["win32k"],
        "variant": "v7",
    },
    "artifactType": "application/vnd.example",
}


@pytest.mark.parametrize("document", [PLAIN, FULL])
def test_json_both_ways(document: dict[str, Any]) -> None:
    descriptor = Descriptor.from_json(document)
    assert json.dumps(descriptor.to_json()) == json.dumps(document)
    assert Descriptor.from_json(descriptor.to_json()) == descriptor


def test_fields() -> None:
    descriptor = Descriptor.from_json(FULL)
    assert descriptor.data == b"abc"
    assert descriptor.platform == Platform("linux", "arm", "v7", "10", ("win32k",))
    assert descriptor.without_context() == Descriptor(media_types.OCI_LAYER, DIGEST, 3)
    assert hash(descriptor)


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "sha256:../../x"},
        {"digest": None},
        {"digest": 5},
        {"size": -1},
        {"size": 1.5},
        {"size": True},
        {"size": "3"},
        {"size": None},
        {"size": 1 << 63},
        {"mediaType": 5},
        {"mediaType": "x" * 256},
        {"mediaType": "text/plain\n"},
        {"annotations": []},
        {"annotations": {"a": 1}},
        {"annotations": {"a": "x" * 70_000}},
        {"urls": "https://example.com"},
        {"urls": [1]},
        {"platform": "linux/amd64"},
        {"platform": {"os": 1}},
        {"data": "not base64!"},
        {"artifactType": {}},
    ],
)
def test_refuses_malformed_fields(changes: dict[str, Any]) -> None:
    with pytest.raises(ImageFormatError):
        Descriptor.from_json({**PLAIN, **changes})


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_refuses_what_is_no_object(value: object) -> None:
    with pytest.raises(ImageFormatError, match="a layer"):
        Descriptor.from_json(value, "a layer")


def test_null_is_absent() -> None:
    document = {**PLAIN, "annotations": None, "urls": None, "platform": None, "data": None}
    assert Descriptor.from_json(document) == Descriptor.from_json(PLAIN)


def test_annotations_are_added_to_a_copy() -> None:
    descriptor = Descriptor.from_json(FULL)
    assert descriptor.with_annotations({"a": "new"}).annotations == {"a": "new", "c": "d"}
    assert descriptor.annotations == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"platform": {"os": "unknown", "architecture": "unknown"}}, True),
        ({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}, True),
        ({"platform": {"os": "linux", "architecture": "amd64"}}, False),
        ({}, False),
    ],
)
def test_attestations_are_told_apart(document: dict[str, Any], expected: bool) -> None:
    assert Descriptor.from_json({**PLAIN, **document}).is_attestation is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms_are_normalised(text: str, expected: str) -> None:
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux//v7", "linux/ämd64"]
)
def test_refuses_what_is_no_platform(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        Platform.parse(text)
    assert caught.value.hint
