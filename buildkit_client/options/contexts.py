"""Contexts: where a build's files come from. The main one feeds ``COPY``; named ones stand for images and stages.

A context turns into a text for the frontend, and into what the client has to serve for it. Nothing is read here: the
tag of an image layout becomes a digest in :mod:`buildkit_client.image_layouts`.

Reference: frontend/dockerui/context.go, namedcontext.go; frontend/dockerfile/dfgitutil/git_ref.go.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote, urlsplit

from buildkit_client.errors import OptionError
from buildkit_client.oci.descriptor import Platform
from buildkit_client.oci.reference import DEFAULT_TAG, Reference
from buildkit_client.options.compression import bool_text
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.options.needs import Needs

CAP_CONTEXTS = "moby.buildkit.frontend.contexts"
CAP_GIT_QUERY = "moby.buildkit.frontend.gitquerystring"
SESSION_URL = "http://buildkit-session/"  # session/upload/uploadprovider
MAIN_NAMES = ("context", "dockerfile")
"""Local directories that the frontend asks for by itself."""

_SCP_STYLE = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9.-]+:.+")  # util/sshutil/scpurl.go
_GIT_SCHEMES = ("git", "http", "https", "ssh")


@dataclass(frozen=True, slots=True)
class ImageContext:
    """An image of a registry, or ``scratch`` for nothing at all.

    Attributes:
        ref: For example ``alpine:3.21``.
    """

    ref: str

    def __post_init__(self) -> None:
        if self.ref != "scratch":
            Reference.parse(self.ref)


@dataclass(frozen=True, slots=True)
class OciLayoutContext:
    """An image in an OCI image layout of ours.

    Attributes:
        path: The layout's folder.
        tag: The image's name in the layout's index; empty takes ``latest``, or the only image there is.
        digest: The image's digest; makes the tag a remark.
    """

    path: Path
    tag: str = ""
    digest: str = ""

    @property
    def store(self) -> str:
        """The name under which the build asks for the layout; the same for the same path."""
        return "layout-" + hashlib.sha256(str(self.path).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class GitContext:
    """A git repository, fetched by the daemon.

    Attributes:
        url: ``https://host/name.git``, ``git://``, ``ssh://`` or ``git@host:name.git``. Not shown: it may hold a login.
        ref: Branch, tag or commit; empty takes the default branch.
        subdir: Folder in it to use.
        checksum: The commit that ref must be.
        keep_git_dir: Keep ``.git``.
        submodules: False leaves submodules out.
        mtime: Files' times: those of the checkout, or of the commit.
        fetch_by_commit: Fetch the checksum's commit without asking what ref is.

    All from ``checksum`` on need a daemon that reads them from the address; older ones refuse the build.
    """

    url: str = field(repr=False)
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: Literal["", "checkout", "commit"] = ""
    fetch_by_commit: bool = False

    def __post_init__(self) -> None:
        scheme, separator, _ = self.url.partition("://")
        if "#" in self.url or "?" in self.url:
            raise OptionError("the address of a git context has more than the address", hint="use ref=, subdir=, …")
        if not separator and not _SCP_STYLE.fullmatch(self.url):
            raise OptionError(
                "a git context needs an address", hint="write it like https://host/name.git or git@host:name.git"
            )
        if separator and scheme.lower() not in _GIT_SCHEMES:
            raise OptionError(f"git cannot be fetched by {scheme[:20]}", why=f"known are {', '.join(_GIT_SCHEMES)}")
        if scheme.lower() in ("http", "https") and not urlsplit(self.url).path.endswith(".git"):
            raise OptionError(
                "the daemon would not take the address of a git context for one",
                why="over http and https it must end with .git",
            )
        if self.fetch_by_commit and not self.checksum:
            raise OptionError("fetch_by_commit needs the commit", hint="give it as checksum=")
        if ":" in self.ref:
            raise OptionError("a git ref holds a colon", hint="give the folder as subdir=")

    @property
    def query(self) -> str:
        """What goes behind the question mark; empty when only ref and subdir are set."""
        parts = [("checksum", self.checksum), ("mtime", self.mtime)]
        parts += [
            (key, bool_text(value))
            for key, value in (
                ("keep-git-dir", self.keep_git_dir),
                ("submodules", self.submodules),
                ("fetch-by-commit", self.fetch_by_commit or None),
            )
            if value is not None
        ]
        return "&".join(f"{key}={quote(value, safe='')}" for key, value in parts if value)

    def to_url(self) -> str:
        """Return the address with everything behind it."""
        fragment = f"{quote(self.ref, safe='/')}:{quote(self.subdir, safe='/')}".rstrip(":")
        if "://" not in self.url:
            fragment = f"{self.ref}:{self.subdir}".rstrip(":")  # such an address is not decoded
        return self.url + (f"?{self.query}" if self.query else "") + (f"#{fragment}" if fragment else "")


@dataclass(frozen=True, slots=True)
class HttpContext:
    """What an HTTP server has: as main context a tar archive or a Dockerfile, as named context a file ``context``.

    Attributes:
        url: Its address. Not shown: it may hold a login.
    """

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
            raise OptionError("an http context needs an address", hint="write it like https://host/context.tar.gz")
        if parts.path.endswith(".git"):
            raise OptionError("the daemon would take this address for a git repository", hint="use GitContext")


@dataclass(frozen=True, slots=True)
class TarContext:
    """A tar archive from a stream, for example standard input; it may be compressed.

    The daemon takes what is not compressed for an archive only if a file's header is whole in its first 1,024 bytes. An
    archive in PAX format may begin with a longer one: compress it, or write it in another format.

    Attributes:
        stream: Read once, so the build can run once.
        id: Tells streams of one build apart.
    """

    stream: BinaryIO = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class DockerfileText:
    """A Dockerfile given as text: beside a local context, or alone as the whole context.

    Attributes:
        text: Its content.
        id: Tells texts of one build apart.
    """

    text: str | bytes = field(repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def data(self) -> bytes:
        """The content as bytes."""
        return self.text.encode("utf-8", "surrogateescape") if isinstance(self.text, str) else self.text


MainContext = Path | LocalDirectory | GitContext | HttpContext | TarContext | DockerfileText | str
"""A main context; a text is an address as the wire has it."""
NamedContext = Path | LocalDirectory | ImageContext | OciLayoutContext | GitContext | HttpContext | str
"""A named context; a text is its value on the wire, for example ``docker-image://alpine`` or ``input:base``."""


def main_context(context: MainContext) -> tuple[dict[str, str], Needs]:
    """Return the attributes of a main context, and what it needs.

    A local directory has no attribute: it is what the frontend takes without one.

    Raises:
        OptionError: It cannot be a main context.
    """
    match context:
        case Path() | LocalDirectory():
            return {}, Needs(local_dirs={"context": context})
        case GitContext():
            return {"context": context.to_url()}, Needs()
        case HttpContext():
            return {"context": context.url}, Needs()
        case TarContext():
            return {"context": SESSION_URL + context.id}, Needs(uploads={context.id: context.stream})
        case DockerfileText():
            return {"context": SESSION_URL + context.id}, Needs(uploads={context.id: io.BytesIO(context.data)})
        case _:
            if not isinstance(context, str):
                raise OptionError(f"a {type(context).__name__} cannot be the main context")
            if "://" not in context and not _SCP_STYLE.match(context) and not context.startswith("github.com/"):
                # The frontend would pass over it without a word.
                raise OptionError(
                    f"{context[:100]!r} cannot be the main context",
                    why="a text is an address, such as https://host/name.git",
                    hint="give a folder as a Path",
                )
            return {"context": context}, Needs()


def named_context(name: str, context: NamedContext) -> tuple[str, Needs]:
    """Return the value of a named context, and what it needs.

    Args:
        name: As :func:`context_name` gives it.
        context: Where it comes from.

    Raises:
        OptionError: It cannot be a named context.
    """
    match context:
        case Path() | LocalDirectory():
            # The frontend asks for the main directories under their names; a named one must not answer.
            directory = f"_{name}" if name in MAIN_NAMES else name
            return f"local:{directory}", Needs(local_dirs={directory: context})
        case ImageContext():
            return f"docker-image://{context.ref}", Needs()
        case OciLayoutContext():
            value = f"oci-layout://{context.store}"
            value += f":{context.tag}" if context.tag else ""
            return value + (f"@{context.digest}" if context.digest else ""), Needs(
                layouts={context.store: context.path}
            )
        case GitContext():
            url = context.to_url()
            if not url.startswith(("git://", "git@", "http://", "https://")):
                raise OptionError(
                    f"named context {name}: the frontend takes no such address of a git repository",
                    hint="use https://, git:// or git@host:path",
                )
            return url, Needs()
        case HttpContext():
            return context.url, Needs()
        case _:
            if not isinstance(context, str) or ":" not in context:
                raise OptionError(
                    f"named context {name} does not say what it is",
                    hint="give a Path, an ImageContext and so on, or a text such as docker-image://alpine",
                )
            return context, Needs()


def context_name(text: str) -> str:
    """Return a named context's name as the frontend looks it up, perhaps with a platform behind ``::``.

    Names are image names in their short form without ``:latest``, so that ``alpine`` covers ``FROM alpine`` and
    ``FROM docker.io/library/alpine:latest``.

    Raises:
        OptionError: It is no name of an image or stage, or the platform is none.

    Reference: frontend/dockerui/config.go, Client.NamedContext.
    """
    name, separator, platform = text.partition("::")
    try:
        reference = Reference.parse(name, default_tag="")
    except OptionError as exc:
        raise OptionError(f"{name[:100]!r} cannot be the name of a context", why=exc.why, hint=exc.hint) from exc
    short = reference.familiar().removesuffix(f":{DEFAULT_TAG}")
    return f"{short}::{Platform.parse(platform)}" if separator else short
