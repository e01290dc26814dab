"""Image references: what people write, and the full name it stands for.

``alpine`` means ``docker.io/library/alpine:latest``. The part before the first slash is a registry only when it has a
dot, a colon or an upper-case letter, or is ``localhost``; a port therefore never gets mixed up with a tag.

Reference: distribution/reference, ParseNormalizedNamed, TagNameOnly, FamiliarString.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NoReturn

from buildkit_client.errors import DigestError, OptionError
from buildkit_client.oci.digest import Digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
DOCKER_HUB_REGISTRY = "registry-1.docker.io"
"""Where Docker Hub's registry really answers."""

MAX_PATH_CHARS = 255
_OFFICIAL_PREFIX = "library/"
_LEGACY_DOMAIN = "index.docker.io"
_SHOWN_CHARS = 200

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}", re.ASCII)
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry, by tag, digest or both.

    Attributes:
        domain: The registry as the name has it, with port where it has one; ``docker.io`` for Docker Hub.
        path: The repository in it, for example ``library/alpine``.
        tag: May be empty.
        digest: Or None. Where both are there, the digest decides and the tag is a remark.
    """

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str = DEFAULT_TAG) -> Reference:
        """Parse what a person writes and fill in what is left out.

        Args:
            text: For example ``alpine``, ``localhost:5000/app:1``, ``ghcr.io/a/b@sha256:…``.
            default_tag: The tag when neither tag nor digest is given; empty for none.

        Raises:
            OptionError: The text is no image reference.
        """
        rest, at, digest_text = text.partition("@")
        digest = None
        if at:
            try:
                digest = Digest(digest_text)
            except DigestError as exc:
                _refuse(text, f"what follows the @ is {exc}", exc.why)
        if _IDENTIFIER.fullmatch(rest):
            _refuse(text, "64 hex digits are an image id, no name")
        domain, remainder = _split_domain(rest)
        path, colon, tag = remainder.partition(":")
        if colon and not _TAG.fullmatch(tag):
            _refuse(text, f"the tag {tag[:_SHOWN_CHARS]!r} is not one", "a tag has up to 128 letters, digits and _ . -")
        if not _DOMAIN.fullmatch(domain) or _port(domain) > _MAX_PORT:
            _refuse(text, f"{domain!r} is no registry host")
        if path != path.lower():
            _refuse(text, f"the repository {path!r} has upper-case letters", f"write {path.lower()}")
        if not _PATH.fullmatch(path):
            _refuse(
                text,
                f"{path!r} is no repository name",
                "use lower-case letters, digits and single . _ - / between them",
            )
        if len(path) > MAX_PATH_CHARS:
            _refuse(text, f"the repository name is longer than {MAX_PATH_CHARS} characters")
        if not colon and digest is None:
            tag = default_tag
        return cls(domain, path, tag, digest)

    @property
    def name(self) -> str:
        """Registry and repository, for example ``docker.io/library/alpine``."""
        return f"{self.domain}/{self.path}"

    @property
    def registry_host(self) -> str:
        """The host to talk to, with port where it has one; ``registry-1.docker.io`` for Docker Hub."""
        return DOCKER_HUB_REGISTRY if self.domain == DEFAULT_DOMAIN else self.domain

    @property
    def identifier(self) -> str:
        """What stands for the image in a registry's URLs: the digest, else the tag; may be empty."""
        return str(self.digest) if self.digest is not None else self.tag

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository with another tag and no digest.

        Raises:
            OptionError: The text is no tag.
        """
        if not _TAG.fullmatch(tag):
            _refuse(f"{self.name}:{tag}", f"the tag {tag[:_SHOWN_CHARS]!r} is not one")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same repository with a digest and no tag."""
        return replace(self, tag="", digest=digest)

    def familiar(self) -> str:
        """Return the short form that people write: Docker Hub's host and ``library/`` left out, tag and digest kept."""
        text = self.name
        if self.domain == DEFAULT_DOMAIN:
            bare = self.path.removeprefix(_OFFICIAL_PREFIX)
            text = bare if "/" not in bare else self.path
        return text + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        """Return the full name with tag and digest."""
        return self.name + self._suffix()


def is_tag(text: str) -> bool:
    """Whether a text may be a tag."""
    return bool(_TAG.fullmatch(text))


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    domain, remainder = DEFAULT_DOMAIN, text
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        domain, remainder = first, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL_PREFIX + remainder
    return domain, remainder


def _port(domain: str) -> int:
    """Return the port of a domain that fits the pattern, 0 where it has none."""
    _, colon, port = domain.rpartition(":")
    return int(port[:6]) if colon and port.isdecimal() and not domain.endswith("]") else 0


def _refuse(text: str, why: str, hint: str = "") -> NoReturn:
    raise OptionError(f"not an image reference: {text[:_SHOWN_CHARS]!a}", why=why, hint=hint)
