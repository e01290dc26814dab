from __future__ import annotations

import hashlib
import io
import pickle

import pytest

from buildkit_client.errors import DigestError
from buildkit_client.oci.digest import Digest, HashingWriter, is_digest, new_hash, read_chunks

HEX = hashlib.sha256(b"abc").hexdigest()
HEX512 = hashlib.sha512(b"abc").hexdigest()


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX512}"])
def test_takes_both_algorithms(text: str) -> None:
    digest = Digest(text)
    assert digest == text
    assert f"{digest.algorithm}:{digest.hex}" == text
    assert Digest.of(b"abc", digest.algorithm) == digest
    assert is_digest(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        HEX,
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha512:{HEX}",
        f"sha256:{HEX512}",
        f"md5:{HEX[:32]}",
        f"sha384:{HEX}{HEX[:32]}",
        "sha256:../../etc/passwd",
        f"sha256:../{HEX[3:]}",
        f"sha256+b64:{HEX}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}٣",
        "sha256:" + "0" * 63 + "/",
    ],
)
def test_refuses_everything_else(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(DigestError) as caught:
        Digest(text)
    assert "hex digits" in caught.value.why


def test_refuses_what_is_no_text() -> None:
    with pytest.raises(DigestError):
        Digest(None)  # type: ignore[arg-type]


def test_error_does_not_repeat_a_huge_text() -> None:
    with pytest.raises(DigestError) as caught:
        Digest("x" * 1_000_000)
    assert len(str(caught.value)) < 200


def test_survives_pickling() -> None:
    digest = Digest.of(b"abc")
    assert isinstance(pickle.loads(pickle.dumps(digest)), Digest)


def test_unknown_algorithm() -> None:
    with pytest.raises(DigestError, match="md5"):
        new_hash("md5")


def test_hashing_writer() -> None:
    sink = io.BytesIO()
    writer = HashingWriter(sink)
    empty = writer.digest
    assert writer.write(b"a") + writer.write(memoryview(b"bc")) == 3
    assert sink.getvalue() == b"abc"
    assert (writer.size_bytes, writer.digest) == (3, f"sha256:{HEX}")
    assert empty == Digest.of(b"")


def test_chunks_are_bounded_and_whole() -> None:
    data = bytes(range(256)) * 10_000
    chunks = list(read_chunks(io.BytesIO(data)))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) == 1 << 20
    assert b"".join(read_chunks(io.BytesIO(data), 300)) == data[:300]
    assert list(read_chunks(io.BytesIO(data), 0)) == []
    assert b"".join(read_chunks(io.BytesIO(b"ab"), 300)) == b"ab"
