"""Misspelt keys and types are found before the daemon sees them."""

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import check_cache_export, check_cache_import, check_exporter, check_frontend_attrs
from buildkit_client.options.known import (
    ANNOTATION_FAMILIES,
    CACHE_EXPORT_KEYS,
    CACHE_IMPORT_KEYS,
    DOCKERFILE_FAMILIES,
    DOCKERFILE_KEYS,
    EXPORTER_KEYS,
    checked_texts,
)


@pytest.mark.parametrize(
    ("check", "kind", "key", "right"),
    [
        (check_exporter, "image", "compresion", "compression"),
        (check_exporter, "image", "naem", "name"),
        (check_exporter, "image", "push_by_digest", "push-by-digest"),
        (check_exporter, "image", "OCI-MediaTypes", "oci-mediatypes"),
        (check_exporter, "image", "insecure", "registry.insecure"),
        (check_exporter, "image", "dangling-name-empty-only", "danging-name-empty-only"),
        (check_exporter, "oci", "annotations.org.example.key", "annotation.org.example.key"),
        (check_exporter, "oci", "anotation-index.key", "annotation-index.key"),
        (check_exporter, "oci", "annotation-manifst[linux/amd64].key", "annotation-manifest[linux/amd64].key"),
        (check_exporter, "local", "platform_split", "platform-split"),
        (check_cache_export, "registry", "mod", "mode"),
        (check_cache_export, "registry", "image_manifest", "image-manifest"),
        (check_cache_export, "registry", "insecure", "registry.insecure"),
        (check_cache_export, "local", "desti", "dest"),
        (check_cache_import, "s3", "endpoint-url", "endpoint_url"),
        (check_frontend_attrs, "dockerfile.v0", "taget", "target"),
        (check_frontend_attrs, "dockerfile.v0", "buildarg:X", "build-arg:"),
        (check_frontend_attrs, "dockerfile.v0", "lable:x", "label:"),
        (check_frontend_attrs, "dockerfile.v0", "attest:provenence", "attest:provenance"),
        (check_frontend_attrs, "dockerfile.v0", "no_cache", "no-cache"),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_a_misspelt_key_is_told_the_right_one(check, kind, key, right, lenient):
    with pytest.raises(OptionError) as caught:
        check(kind, {key: "x"}, lenient=lenient)
    assert caught.value.why == f"did you mean {right}?"


@pytest.mark.parametrize(
    ("check", "kind", "right"),
    [
        (check_exporter, "imge", "image"),
        (check_exporter, "Docker", "docker"),
        (check_cache_export, "regsitry", "registry"),
        (check_cache_import, "locla", "local"),
        (check_frontend_attrs, "dockerfile", "dockerfile.v0"),
    ],
)
def test_a_misspelt_type_is_told_the_right_one(check, kind, right):
    with pytest.raises(OptionError) as caught:
        check(kind, {})
    assert caught.value.why == f"did you mean {right}?"
    assert right in caught.value.hint


@pytest.mark.parametrize("check", [check_exporter, check_cache_export, check_cache_import, check_frontend_attrs])
def test_a_type_that_is_like_nothing_is_left_to_lenient_callers(check):
    with pytest.raises(OptionError, match="unknown"):
        check("zzz", {})
    check("zzz", {"any": "thing"}, lenient=True)


def test_only_caches_are_closed():
    check_exporter("image", {"com.example.thing": "copied into the result"})
    check_exporter("local", {"dest": "out"})
    check_frontend_attrs("dockerfile.v0", {"com.example.thing": "for a frontend that a syntax line names"})
    check_frontend_attrs("gateway.v0", {"source": "x", "targt": "the image says what it takes"})
    for check in (check_cache_export, check_cache_import):
        with pytest.raises(OptionError, match=r"com\.example\.thing"):
            check("registry", {"ref": "x", "com.example.thing": "1"})
        check("registry", {"ref": "x", "com.example.thing": "1"}, lenient=True)


def test_attributes_for_exporting_may_be_given_for_importing_too():
    check_cache_import("registry", {"ref": "x", "mode": "max"})


def test_what_was_removed_is_said():
    with pytest.raises(OptionError, match=r"BuildKit 0\.11"):
        check_frontend_attrs("dockerfile.v0", {"override-copy-image": "x"})


def test_a_gateway_needs_its_image():
    with pytest.raises(OptionError) as caught:
        check_frontend_attrs("gateway.v0", {"sourc": "x"})
    assert "sourc" in caught.value.hint
    with pytest.raises(OptionError, match="image"):
        check_frontend_attrs("gateway.v0", {})


def test_what_is_known_passes():
    for kind, keys in EXPORTER_KEYS.items():
        check_exporter(kind, keys)
    check_exporter("image", [f"{family}.some.key" for family in ANNOTATION_FAMILIES])
    check_exporter("image", ["annotation-manifest[linux/amd64].k"])
    for kind, keys in CACHE_EXPORT_KEYS.items():
        check_cache_export(kind, keys)
    for kind, keys in CACHE_IMPORT_KEYS.items():
        check_cache_import(kind, keys)
    check_frontend_attrs("dockerfile.v0", DOCKERFILE_KEYS)
    check_frontend_attrs("dockerfile.v0", [f"{one}:x" for one in DOCKERFILE_FAMILIES - {"attest"}])
    check_frontend_attrs("dockerfile.v0", ["attest:sbom", "attest:provenance", "sharedkey:localdir:x"])


@pytest.mark.parametrize(
    ("value", "what"), [(1, "is a int"), (None, "is a NoneType"), (b"x", "is a bytes"), ("caf\udce9", "is not UTF-8")]
)
def test_values_that_the_wire_cannot_carry_are_told(value, what):
    with pytest.raises(OptionError, match=f"frontend x: the value of 'build-arg:A' {what}") as caught:
        checked_texts("frontend x", {"target": "ok", "build-arg:A": value})
    assert "caf" not in f"{caught.value}{caught.value.why}"


def test_values_that_are_texts_pass():
    assert checked_texts("frontend x", {"target": "grün"}) == {"target": "grün"}
