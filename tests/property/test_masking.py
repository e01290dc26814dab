"""Masking does not depend on how a stream is cut, and scrubbing leaves no credential and takes nothing else."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from convox.masking import MaskingWriter, _needles, mask, scrub

SMALL = st.text(alphabet="ab1", min_size=1, max_size=9)


@given(st.lists(SMALL, min_size=1, max_size=4), st.text(alphabet="ab1 ", max_size=80), st.data())
def test_masking_survives_any_chunking(secrets: list[str], text: str, data: st.DataObject) -> None:
    wire = text.encode()
    out: list[bytes] = []
    writer = MaskingWriter(secrets, out.append)
    position = 0
    while position < len(wire):
        size = data.draw(st.integers(1, len(wire) - position))
        writer.write(wire[position : position + size])
        position += size
    writer.flush()
    needles = _needles(secrets)
    whole = re.sub(b"|".join(map(re.escape, needles)), b"***", wire) if needles else wire
    assert b"".join(out) == whole


@given(
    st.text(alphabet=st.characters(codec="utf-8"), min_size=4, max_size=30), st.text(max_size=20), st.text(max_size=20)
)
def test_a_secret_never_comes_through(secret: str, before: str, after: str) -> None:
    if "*" in secret or secret.strip() in before + after or len(secret.strip()) < 4:
        return
    assert secret not in mask(f"{before}{secret}{after}", [secret])


WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCXYZ0123456789._~-", min_size=1, max_size=24)
PASSWORD = st.text(alphabet="abcdefqrstuvwxyz0123456789!$%^*()_+=.~-", min_size=8, max_size=40)
TEMPLATES = st.sampled_from(
    [
        "{before} https://{user}:{secret}@{host}/v2/{after}",
        "{before} {user}:{secret}@{host} {after}",
        "{before} Authorization: Bearer {token} {after}",
        "{before} Bearer {token}, {after}",
        "{before} authorization: basic {token}\n{after}",
        '{before} "X-Registry-Auth": "{secret}" {after}',
        "{before} X-Registry-Auth: {token} {after}",
    ]
)
SAFE = st.text(alphabet="ghijkl mnop", max_size=20)


TOKEN = st.text(alphabet="ABCDEFabcdef0123456789._-", min_size=8)


@given(TEMPLATES, WORD, PASSWORD, TOKEN, st.tuples(SAFE, SAFE))
def test_credentials_go_and_the_rest_stays(
    template: str, user: str, secret: str, token: str, around: tuple[str, str]
) -> None:
    before, after = around
    text = template.format(before=before, user=user, secret=secret, token=token, host="host.example", after=after)
    scrubbed = scrub(text)
    assert "***" in scrubbed
    for hidden in (secret, token):
        assert hidden not in scrubbed or hidden not in text
    assert scrubbed.startswith(before)
    assert scrubbed.endswith(after)
    assert "host.example" in scrubbed or "host.example" not in text


@given(st.text(alphabet="abcxyz 0123456789./-_\n,;()[]", max_size=200))
def test_text_without_credentials_is_not_changed(text: str) -> None:
    assert scrub(text) == text
