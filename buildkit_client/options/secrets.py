"""Secrets, SSH agents and SSH keys that a build's steps may use; their values are asked for when a step needs them.

Reference: session/secrets/secretsprovider; session/sshforward/sshprovider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret kept in a file, read each time a step asks for it."""

    path: Path


@dataclass(frozen=True, slots=True)
class SecretEnv:
    """A secret kept in a variable of the environment, read each time a step asks for it."""

    variable: str


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret given as it is."""

    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SecretCallback:
    """A secret that a function gives; None means that there is none.

    The function is called in a thread of the session.
    """

    function: Callable[[], bytes | None] = field(repr=False)


Secret = SecretFile | SecretEnv | SecretValue | SecretCallback


@dataclass(frozen=True, slots=True)
class SshAgent:
    """An SSH agent that steps with ``--mount=type=ssh`` may use.

    Attributes:
        socket_path: The agent's socket, usually that of ``SSH_AUTH_SOCK``.
        raw: Pass every request on. Otherwise only listing keys and signing are, so that a build can neither change
            the agent nor lock it.
    """

    socket_path: Path
    raw: bool = False

    def __post_init__(self) -> None:
        if str(self.socket_path) in ("", "."):  # Path("") is Path(".")
            raise OptionError(
                "an SSH agent needs the path of its socket", hint="start ssh-agent, and give the path in SSH_AUTH_SOCK"
            )


@dataclass(frozen=True, slots=True)
class SshKeys:
    """Private SSH keys that steps with ``--mount=type=ssh`` may use, through an agent inside this process.

    Attributes:
        paths: Files without a passphrase, in OpenSSH's format or PEM. Ed25519 keys always work; RSA and ECDSA keys
            need the package ``cryptography`` (``pip install 'buildkit-client[ssh]'``).
    """

    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        if not self.paths:
            raise OptionError("SSH keys need the path of at least one file", hint="name a private key's file")


SshSource = SshAgent | SshKeys
"""What stands behind one SSH id of a build."""
