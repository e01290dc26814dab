"""The token authority: keys that let the daemon recognise us, so that it asks us for tokens and never for a password.

The daemon keeps what it knows about a registry per client. With our public key it can tell, in a later session, that
the same client is back, and reuse the tokens it still has. The key is made from the daemon's salt and a random seed of
ours, kept per registry:

    key = Ed25519 key from HMAC-SHA256(key=salt, message=seed), or message empty without a login

Without a file the seeds live as long as this process: later ones fetch new tokens, and nothing else changes. Give
clients with different logins for one registry different files, or they share the daemon's tokens.

Reference: session/auth/authprovider/tokenseed.go, authprovider.go (getAuthorityKey, VerifyTokenAuthority).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

from buildkit_client.session import ed25519

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SEED_BYTES = 16  # tokenseed.go, newSeed
_LOCK_TIMEOUT_S = 5.0
_LOCK_POLL_S = 0.05
_MAX_FILE_BYTES = 1 << 20


def authority_public_key(salt: bytes, seed: bytes) -> bytes:
    """Return the 32 bytes that ``GetTokenAuthority`` answers with.

    Args:
        salt: From the daemon, fixed for the life of its process.
        seed: See :meth:`TokenSeeds.seed_for`; empty when there is no login for the registry.
    """
    return ed25519.public_key(hmac.digest(salt, seed, hashlib.sha256))


def sign_payload(salt: bytes, seed: bytes, payload: bytes) -> bytes:
    """Return what ``VerifyTokenAuthority`` answers with: the 64-byte signature, then the payload."""
    return ed25519.sign(hmac.digest(salt, seed, hashlib.sha256), payload) + payload


class TokenSeeds:
    """Random seeds by registry, in a file of mode 0600 or in memory.

    The file is JSON, ``{"<host>": {"Seed": "<base64>"}}``, written under a lock file next to it: the format that other
    BuildKit clients keep in ``.token_seed``. Symbolic links are not followed. When the file cannot be used (read-only,
    no permission, a link, damaged, or locked too long), seeds stay in memory; that costs speed, not safety.

    Args:
        path: The file, or None for memory only. Its folder is made with mode 0700.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seeds: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def seed_for(self, host: str) -> bytes:
        """Return the 16 bytes for a registry; new ones are made and kept at the first call."""
        with self._lock:
            if host not in self._seeds:
                self._seeds[host] = self._stored_seed(host)
            return self._seeds[host]

    def _stored_seed(self, host: str) -> bytes:
        new = secrets.token_bytes(_SEED_BYTES)
        if self._path is None:
            return new
        try:
            with self._locked(self._path):
                document = _read_document(self._path)
                if (kept := _seed_of(document.get(host))) is not None:
                    return kept
                document[host] = {"Seed": base64.b64encode(new).decode("ascii")}
                _write_document(self._path, document)
        except (OSError, TimeoutError):
            pass  # see the class: memory will do
        return new

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold the lock file; the same lock that flock(2) users such as the Go clients take."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise TimeoutError("the seed file stays locked") from None
                    time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)  # releases the lock


def _read_document(path: Path) -> dict[str, object]:
    """Return the file's content; a missing or damaged file counts as empty, as with the reference."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_FILE_BYTES)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _seed_of(entry: object) -> bytes | None:
    text = entry.get("Seed") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        return None
    try:
        seed = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    # A short seed could be guessed, and the key with it.
    return seed if len(seed) >= _SEED_BYTES else None


def _write_document(path: Path, document: dict[str, object]) -> None:
    """Replace the file in one step, so that no reader ever sees half of it."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
