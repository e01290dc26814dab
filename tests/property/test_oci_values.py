"""References, digests, descriptors, challenges: any text is read, or refused in the one way that is documented."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_client.errors import DigestError, ImageFormatError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest, is_digest
from buildkit_client.oci.image import parse_manifest
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry_auth import parse_challenges

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
DIGESTS = HEX.map("sha256:{}".format) | st.tuples(HEX, HEX).map(lambda two: "sha512:" + "".join(two))
COMPONENTS = st.from_regex(r"\A[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}\Z")
DOMAINS = st.from_regex(
    r"\A([a-z0-9]{1,5}\.[a-z]{2,4}(:[0-9]{1,4})?|localhost(:[0-9]{2,4})?|[a-z]{1,4}:[0-9]{4}|\[::[0-9a-f]{1,4}\](:[0-9]{4})?)\Z"
)
TAGS = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}\Z")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | DIGESTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "schemaVersion",
                    "mediaType",
                    "digest",
                    "size",
                    "manifests",
                    "config",
                    "layers",
                    "annotations",
                    "platform",
                    "data",
                    "urls",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=15,
)


@given(DOMAINS, st.lists(COMPONENTS, min_size=1, max_size=4), st.none() | TAGS, st.none() | DIGESTS)
def test_references_keep_their_parts(domain: str, path: list[str], tag: str | None, digest: str | None) -> None:
    text = f"{domain}/{'/'.join(path)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = Reference.parse(text)
    assert (reference.domain, reference.path) == (domain, "/".join(path))
    assert reference.tag == (tag or ("" if digest else "latest"))
    assert reference.digest == digest
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference


@given(st.lists(COMPONENTS, min_size=1, max_size=3), TAGS)
def test_familiar_names_mean_the_hub(path: list[str], tag: str) -> None:
    first = path[0]
    if len(path) > 1 and ("." in first or first == "localhost"):
        return
    reference = Reference.parse(f"{'/'.join(path)}:{tag}")
    assert reference.domain == "docker.io"
    assert reference.path == "/".join(path if len(path) > 1 else ["library", first])
    assert Reference.parse(reference.familiar()) == reference


@given(st.text(max_size=60) | st.text("aA:/@.-_0[]", max_size=30))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except OptionError:
        return
    assert Reference.parse(str(reference)) == reference
    for part in (reference.domain, reference.path, reference.tag):
        assert not set(part) & set("@?#% \n\\")
    assert ".." not in reference.path.split("/")


@given(DIGESTS, st.integers(0, 140), st.characters())
def test_a_digest_with_one_other_character_is_none(digest: str, place: int, character: str) -> None:
    changed = digest[: place % len(digest)] + character + digest[place % len(digest) + 1 :]
    assert Digest(digest) == digest
    if character in "0123456789abcdef" or changed == digest:
        return
    assert not is_digest(changed)
    with pytest.raises(DigestError):
        Digest(changed)


@given(JSON)
def test_any_json_is_a_descriptor_or_refused(value: object) -> None:
    with suppress(ImageFormatError):
        descriptor = Descriptor.from_json(value)
        assert Descriptor.from_json(descriptor.to_json()) == descriptor
        assert is_digest(descriptor.digest)


@given(JSON, st.sampled_from(sorted(media_types.MANIFESTS)))
def test_any_json_is_a_manifest_or_refused(value: object, media_type: str) -> None:
    with suppress(ImageFormatError):
        manifest = parse_manifest(json.dumps(value).encode(), media_type)
        assert parse_manifest(manifest.to_bytes(), media_type) == manifest


@given(st.binary(max_size=200), st.sampled_from(sorted(media_types.MANIFESTS)))
def test_any_bytes_are_a_manifest_or_refused(data: bytes, media_type: str) -> None:
    with suppress(ImageFormatError):
        parse_manifest(data, media_type)


@given(st.text(max_size=100) | st.text('Basic Bearer realm="=,\\ ', max_size=60))
def test_any_text_is_read_as_challenges(text: str) -> None:
    for challenge in parse_challenges(text):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(
        st.sampled_from(["realm", "service", "scope", "error"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        min_size=1,
    )
)
def test_quoted_parameters_come_back(parameters: dict[str, str]) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = "Bearer " + ",".join(f"{key}={quote(value)}" for key, value in parameters.items())
    (challenge,) = parse_challenges(header)
    assert challenge.parameters == parameters


@given(st.text(max_size=30) | st.text("linuxamd64/v", max_size=20))
def test_platforms_have_one_spelling(text: str) -> None:
    with suppress(OptionError):
        platform = Platform.parse(text)
        assert Platform.parse(str(platform)) == platform
        assert platform.normalized() == platform
