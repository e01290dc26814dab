"""Private SSH keys from files, and signatures made with them.

Ed25519 keys without a passphrase need nothing but Python; when the package ``cryptography`` is there, it signs, since
its running time does not depend on the key. RSA and ECDSA keys need it: ``pip install 'buildkit-client[ssh]'``. Keys
with a passphrase are refused, as there is nobody to ask for it in the middle of a build; ssh-agent takes them.

Reference: session/sshforward/sshprovider/agentprovider.go, toDialer; OpenSSH PROTOCOL.key; RFC 4253 section 6.6 (RSA),
RFC 5656 section 3.1.2 (ECDSA), RFC 8332 (RSA with SHA-2), RFC 8410 section 7 and RFC 8709 section 6 (Ed25519).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_client.errors import SshAgentError
from buildkit_client.session import ed25519

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec, rsa

MAX_KEY_FILE_BYTES = 100 << 10  # agentprovider.go, toDialer

FLAG_RSA_SHA2_256 = 2  # draft-ietf-sshm-ssh-agent, 3.6.1
FLAG_RSA_SHA2_512 = 4

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*\n(.*?)-----END \1-----", re.DOTALL)
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, 7: all that stands before the seed
_PKCS8_SIZE = len(_PKCS8_ED25519) + ed25519.SEED_BYTES
_EXTRA = "buildkit-client[ssh]"

_Sign = Callable[[bytes, int], tuple[bytes, bytes]]
"""Takes data and an agent's flags, returns the signature algorithm and the signature as SSH writes it."""


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key that signs.

    Attributes:
        blob: The public key in SSH's wire format.
    """

    blob: bytes
    _sign: _Sign = field(repr=False)

    def sign(self, data: bytes, flags: int = 0) -> bytes:
        """Return a signature in SSH's wire format.

        Args:
            data: What to sign.
            flags: Which hash RSA uses, :data:`FLAG_RSA_SHA2_256` or :data:`FLAG_RSA_SHA2_512`; SHA-1 without them,
                which some servers still ask for. Other keys have only one.
        """
        algorithm, signature = self._sign(data, flags)
        return ssh_string(algorithm) + ssh_string(signature)


class _KeyError(Exception):
    """Why a file's content cannot be used; never a part of it."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


def load_key(path: Path) -> SshKey:
    """Read a private key.

    Args:
        path: A file in OpenSSH's format, or PEM (PKCS #1, PKCS #8, SEC 1).

    Raises:
        SshAgentError: It cannot be read, is too large, is no private key, has a passphrase, or needs a package that is
            not installed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
        if len(data) > MAX_KEY_FILE_BYTES:
            raise _KeyError(f"it has more than {MAX_KEY_FILE_BYTES} bytes", "name the file of a private key")
        return _parse(data)
    except OSError as exc:
        raise SshAgentError(
            f"cannot read the SSH key {path}", why=exc.strerror or type(exc).__name__, hint="check its path"
        ) from exc
    except _KeyError as exc:
        raise SshAgentError(f"cannot use the SSH key {path}", why=str(exc), hint=exc.hint) from None


def ssh_string(data: bytes) -> bytes:
    """Return bytes with their length in front, as SSH writes them (RFC 4251, section 5)."""
    return len(data).to_bytes(4, "big") + data


class SshReader:
    """Reads SSH's strings and numbers one after the other.

    Raises:
        ValueError: From every method, when the data ends too early.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size > len(self._data):
            raise ValueError("the data ends too early")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def number(self) -> int:
        """Return the next unsigned 32-bit number."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Return the next string."""
        return self.take(self.number())


def _parse(data: bytes) -> SshKey:
    pem = _PEM.search(data)
    if pem is None:
        is_public = data.lstrip().startswith((b"ssh-", b"ecdsa-", b"sk-"))
        raise _KeyError("it is a public key" if is_public else "it is no private key", "name a private key's file")
    label, body = pem[1], pem[2]
    if label == b"ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in body.partition(b"\n\n")[0]:
        raise _encrypted()
    if label not in (b"OPENSSH PRIVATE KEY", b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"):
        raise _KeyError(f"its type, {label.decode()}, is not known", "make a key with ssh-keygen -t ed25519")
    if label in (b"OPENSSH PRIVATE KEY", b"PRIVATE KEY"):
        try:
            binary = binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
            seed = _openssh_seed(binary) if label == b"OPENSSH PRIVATE KEY" else _pkcs8_seed(binary)
        except ValueError:
            raise _damaged() from None
        if seed is not None:
            return _ed25519_key(seed)
    return _key_by_cryptography(pem[0] + b"\n", is_openssh=label == b"OPENSSH PRIVATE KEY")


def _encrypted() -> _KeyError:
    return _KeyError("it has a passphrase", "add it to ssh-agent, and forward the agent")


def _damaged() -> _KeyError:
    return _KeyError("it is damaged", "copy it again")


def _openssh_seed(binary: bytes) -> bytes | None:
    """Return the seed of an Ed25519 key in OpenSSH's format, None for a key of another type."""
    if not binary.startswith(_OPENSSH_MAGIC):
        raise ValueError("not OpenSSH's format")
    reader = SshReader(binary[len(_OPENSSH_MAGIC) :])
    cipher, _kdf, _kdf_options = reader.string(), reader.string(), reader.string()
    if cipher != b"none":
        raise _encrypted()
    if reader.number() != 1:
        raise _KeyError("it holds several keys", "give each key a file")
    reader.string()  # the public key
    private = SshReader(reader.string())
    if private.take(4) != private.take(4):
        raise ValueError("the check numbers differ")
    kind = private.string()
    if kind.startswith(b"sk-"):
        raise _KeyError("its secret is in a security key", "add it to ssh-agent, and forward the agent")
    if kind != b"ssh-ed25519":
        return None
    public, secret = private.string(), private.string()
    seed = secret[: ed25519.SEED_BYTES]
    if secret != seed + public or ed25519.public_key(seed) != public:
        raise ValueError("the two halves do not belong together")
    return seed


def _pkcs8_seed(binary: bytes) -> bytes | None:
    is_ed25519 = binary.startswith(_PKCS8_ED25519) and len(binary) == _PKCS8_SIZE
    return binary[len(_PKCS8_ED25519) :] if is_ed25519 else None


def _ed25519_key(seed: bytes) -> SshKey:
    blob = ssh_string(b"ssh-ed25519") + ssh_string(ed25519.public_key(seed))
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519 as fast  # noqa: PLC0415  (optional, and slow)
    except ImportError:
        return SshKey(blob, lambda data, _flags: (b"ssh-ed25519", ed25519.sign(seed, data)))
    key = fast.Ed25519PrivateKey.from_private_bytes(seed)
    return SshKey(blob, lambda data, _flags: (b"ssh-ed25519", key.sign(data)))


def _key_by_cryptography(pem: bytes, *, is_openssh: bool) -> SshKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  (optional, and slow to import)
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415
    except ImportError:
        raise _KeyError(
            "only Ed25519 keys can be used without the package cryptography", f"pip install '{_EXTRA}'"
        ) from None
    load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    try:
        key = load(pem, password=None)
    except TypeError:  # how the package says that it wants a password
        raise _encrypted() from None
    except (ValueError, UnsupportedAlgorithm):
        raise _damaged() from None
    match key:
        case rsa.RSAPrivateKey():
            sign = _rsa_sign(key)
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            sign = _ecdsa_sign(key)
        case ed25519.Ed25519PrivateKey():
            return _ed25519_key(key.private_bytes_raw())
        case _:
            raise _KeyError("its type is not one that SSH servers take", "make a key with ssh-keygen -t ed25519")
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return SshKey(base64.b64decode(public.split()[1]), sign)


def _rsa_sign(key: rsa.RSAPrivateKey) -> _Sign:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  (optional, and slow to import)
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

    def sign(data: bytes, flags: int) -> tuple[bytes, bytes]:
        algorithm: bytes
        chosen: hashes.HashAlgorithm
        if flags & FLAG_RSA_SHA2_512:
            algorithm, chosen = b"rsa-sha2-512", hashes.SHA512()
        elif flags & FLAG_RSA_SHA2_256:
            algorithm, chosen = b"rsa-sha2-256", hashes.SHA256()
        else:
            algorithm, chosen = b"ssh-rsa", hashes.SHA1()
        return algorithm, key.sign(data, padding.PKCS1v15(), chosen)

    return sign


_CURVES = {"secp256r1": b"nistp256", "secp384r1": b"nistp384", "secp521r1": b"nistp521"}


def _ecdsa_sign(key: ec.EllipticCurvePrivateKey) -> _Sign:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  (optional, and slow to import)
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

    curve = _CURVES[key.curve.name]
    chosen = {b"nistp256": hashes.SHA256(), b"nistp384": hashes.SHA384(), b"nistp521": hashes.SHA512()}[curve]

    def sign(data: bytes, _flags: int) -> tuple[bytes, bytes]:
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(chosen)))
        return b"ecdsa-sha2-" + curve, ssh_string(_mpint(r)) + ssh_string(_mpint(s))

    return sign


def _mpint(number: int) -> bytes:
    """Return a positive number's bytes with room for the sign (RFC 4251, section 5)."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
