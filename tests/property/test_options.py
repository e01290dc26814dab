"""Options: whatever a caller writes, the wire says the same; one slip of the keyboard is noticed."""

import json
from urllib.parse import unquote, urlsplit

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import assume, example, given
from hypothesis import strategies as st

from buildkit_client.cli.values import csv_fields
from buildkit_client.errors import OptionError
from buildkit_client.oci.reference import Reference
from buildkit_client.options import (
    Constraint,
    GitContext,
    Sbom,
    SourcePolicy,
    SourceRule,
    check_cache_export,
    check_cache_import,
    check_exporter,
    check_frontend_attrs,
)
from buildkit_client.options.contexts import context_name
from buildkit_client.options.known import CACHE_EXPORT_KEYS, CACHE_IMPORT_KEYS, DOCKERFILE_KEYS, EXPORTER_KEYS

TABLES = [
    *((check_exporter, kind, keys) for kind, keys in EXPORTER_KEYS.items()),
    *((check_cache_export, kind, keys) for kind, keys in CACHE_EXPORT_KEYS.items()),
    *((check_cache_import, kind, keys | CACHE_EXPORT_KEYS[kind]) for kind, keys in CACHE_IMPORT_KEYS.items()),
    (check_frontend_attrs, "dockerfile.v0", DOCKERFILE_KEYS),
]
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@st.composite
def slips(draw):
    """A known key with one letter left out, doubled, or swapped with the next."""
    check, kind, keys = draw(st.sampled_from(TABLES))
    key = draw(st.sampled_from(sorted(key for key in keys if len(key) >= 5)))
    place = draw(st.integers(0, len(key) - 2))
    slip = draw(
        st.sampled_from(
            [
                key[:place] + key[place + 1 :],
                key[:place] + key[place] * 2 + key[place + 1 :],
                key[:place] + key[place + 1] + key[place] + key[place + 2 :],
            ]
        )
    )
    assume(slip not in keys)
    return check, kind, keys, slip


@given(slips())
def test_one_slip_is_noticed_and_the_right_key_named(slip):
    check, kind, keys, key = slip
    with pytest.raises(OptionError) as caught:
        check(kind, {key: "x"}, lenient=True)
    assert caught.value.why.removeprefix("did you mean ").removesuffix("?") in keys


@given(st.sampled_from(TABLES), TEXT)
def test_any_key_passes_or_is_an_option_error(table, key):
    check, kind, keys = table
    for lenient in (False, True):
        try:
            check(kind, {key: "x"}, lenient=lenient)
        except OptionError as exc:
            assert key not in keys
            assert str(exc)


@given(st.dictionaries(TEXT.filter(lambda key: key and "=" not in key and key != "generator"), TEXT, min_size=1))
def test_parameters_of_an_attestation_survive(params):
    assume(not any(letter in text for pair in params.items() for text in pair for letter in "\r\n"))
    fields = csv_fields(Sbom(params=params).to_value())
    assert dict(field.split("=", 1) for field in fields) == params


@given(
    st.from_regex(
        r"(?:docker\.io/|index\.docker\.io/|ghcr\.io/|localhost:5000/)?[a-z0-9]{1,5}(?:/[a-z]{1,5})?(?::[a-z0-9.]{0,4})?",
        fullmatch=True,
    )
)
@example("library/alpine")
@example("docker.io/library/alpine:latest")
def test_context_names_mean_the_same_image(name):
    try:
        full = Reference.parse(name)
    except OptionError:
        with pytest.raises(OptionError):
            context_name(name)
        return
    short = context_name(name)
    assert Reference.parse(short) == full
    assert context_name(short) == short
    assert not short.endswith(":latest")


@given(TEXT.filter(lambda text: ":" not in text), TEXT, st.sampled_from([None, True, False]))
def test_what_is_behind_a_git_address_can_be_read_back(ref, subdir, submodules):
    url = GitContext(url="https://example.com/a.git", ref=ref, subdir=subdir, submodules=submodules).to_url()
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://example.com/a.git"
    fragment = tuple(unquote(part) for part in f"{parts.fragment}:".split(":")[:2])
    assert fragment == (ref, subdir)
    assert parts.query == ("" if submodules is None else f"submodules={str(submodules).lower()}")


@st.composite
def rules(draw):
    action = draw(st.sampled_from(["allow", "deny", "convert"]))
    return SourceRule(
        action=action,
        identifier=draw(TEXT.filter(bool)),
        match=draw(st.sampled_from(["wildcard", "exact", "regex"])),
        constraints=tuple(
            draw(
                st.lists(
                    st.builds(Constraint, TEXT, TEXT, st.sampled_from(["equal", "notequal", "matches"])), max_size=2
                )
            )
        ),
        new_identifier=draw(TEXT.filter(bool)) if action == "convert" else "",
        new_attrs=draw(st.dictionaries(TEXT, TEXT, max_size=2)) if action == "convert" else {},
    )


@given(st.lists(rules(), max_size=3), st.booleans())
def test_policies_survive_protobufs_json(given_rules, original_names):
    policy = SourcePolicy(tuple(given_rules))
    text = json.dumps(MessageToDict(policy.to_proto(), preserving_proto_field_name=original_names))
    assert SourcePolicy.from_json(text) == policy


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["rules", "selector", "updates", "action", "identifier", "attrs", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_policy_or_an_option_error(document):
    try:
        policy = SourcePolicy.from_json(json.dumps(document))
    except OptionError:
        return
    assert policy.to_proto().version == 1
