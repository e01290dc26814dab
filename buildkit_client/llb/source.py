"""Where file trees come from: registries, image layouts, the client's directories, git and the web.

Reference: client/llb/source.go; solver/pb/attr.go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol, Unpack

from buildkit_client.errors import DigestError, OptionError
from buildkit_client.llb import go_path
from buildkit_client.llb.constraints import (
    ConstraintOptions,
    Constraints,
    Metadata,
    default_platform,
    read_strings,
)
from buildkit_client.llb.git_url import GitUrl
from buildkit_client.llb.state import State
from buildkit_client.llb.vertex import Graph, Output, Vertex, no_platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client._proto import ops_pb2
    from buildkit_client.oci.descriptor import Platform

ResolveMode = Literal["default", "pull", "local"]
"""Where an image is looked up: as the builder likes, always in the registry, or on the builder if it is there."""

Differ = Literal["none", "metadata"]
"""How the builder finds files it already has: not at all, or by size, time, mode and owner."""

_GO_JSON = str.maketrans(
    {
        **{chr(code): f"\\u{code:04x}" for code in (*range(0x20), *b"<>&", 0x2028, 0x2029)},
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        '"': '\\"',
        "\\": "\\\\",
    }
)
"""How Go's encoding/json writes characters, which differs from Python's in what it escapes."""


class SourceOp(Vertex):
    """Loads something from outside.

    Reference: client/llb/source.go, SourceOp.
    """

    def __init__(self, identifier: str, attrs: dict[str, str], constraints: Constraints) -> None:
        self.constraints = constraints
        self._identifier = identifier
        self._attrs = attrs

    def inputs(self) -> list[Output]:
        """Return nothing."""
        return []

    def fill(self, op: ops_pb2.Op, _graph: Graph, /) -> Metadata:
        """Write identifier and attributes; only images are different on each platform."""
        if not self._identifier.startswith(("docker-image://", "oci-layout://")):
            no_platform(op)
        op.source.identifier = self._identifier
        op.source.attrs.update(self._attrs)
        return self.constraints.metadata


class LocalOp(SourceOp):
    """Loads a directory of the client; without a session it is marked as that of one build.

    Args:
        name: The name that the session serves it under.
        attrs: Attributes of the source.
        unique_id: What marks it; empty for what ``marshal`` was given.
        constraints: The rest.
    """

    def __init__(self, name: str, attrs: dict[str, str], unique_id: str, constraints: Constraints) -> None:
        super().__init__(f"local://{name}", attrs, constraints)
        self._unique_id = unique_id

    def fill(self, op: ops_pb2.Op, graph: Graph, /) -> Metadata:
        """Write it, and the mark where it has no session."""
        metadata = super().fill(op, graph)
        if "local.session" in self._attrs:
            return metadata
        op.source.attrs["local.unique"] = self._unique_id or graph.local_unique_id
        return self.constraints.with_caps("source.local.unique").metadata


class ResolvedImage(Protocol):
    """What an :class:`ImageResolver` found; a gateway's ``ResolvedImage`` is one."""

    @property
    def ref(self) -> str:
        """The reference, which may be another one than it was asked for."""

    @property
    def digest(self) -> str:
        """Digest of its index or manifest; empty when it was not looked up."""

    @property
    def config(self) -> bytes | str | Mapping[str, object]:
        """Its config, as JSON or as JSON gives it."""


class ImageResolver(Protocol):
    """Looks an image up before the build.

    Reference: client/llb/sourceresolver/types.go, ImageMetaResolver.
    """

    def __call__(self, ref: str, platform: Platform, resolve_mode: ResolveMode) -> ResolvedImage:
        """Return digest and config of an image.

        Args:
            ref: The full reference.
            platform: Which of its images.
            resolve_mode: As it was given to :func:`image`.
        """


def image(
    ref: str,
    *,
    resolve_mode: ResolveMode = "default",
    checksum: str = "",
    layer_limit: int | None = None,
    internal: bool = False,
    resolver: ImageResolver | None = None,
    resolve_digest: bool = False,
    **constraints: Unpack[ConstraintOptions],
) -> State:
    """Return the file tree of an image in a registry.

    Args:
        ref: For example ``alpine:3.20``.
        resolve_mode: See :data:`ResolveMode`.
        checksum: The digest that the image must have.
        layer_limit: Take only so many of its layers.
        internal: Keep it out of people's cache listings.
        resolver: Called at once; environment, working directory and platform come from the config it finds. Without it
            the state has none of these: see also :meth:`State.with_image_config`.
        resolve_digest: Fix the image to the digest that the resolver finds.
        **constraints: See :class:`ConstraintOptions`; the resolver gets the platform, or this machine's.

    Raises:
        OptionError: The text is no reference, or an option is not possible.

    Reference: client/llb/source.go, Image; client/llb/resolver.go.
    """
    reference = Reference.parse(ref)
    limits = Constraints.of(**constraints).with_caps("source.image")
    attrs: dict[str, str] = {}
    if resolve_mode not in ("default", "pull", "local"):
        raise OptionError(f"resolve_mode cannot be {resolve_mode!a}", hint="one of default, pull, local")
    if resolve_digest and resolver is None:
        raise OptionError("resolve_digest needs a resolver", why="only it can tell the digest")
    if resolve_mode != "default":
        attrs["image.resolvemode"] = resolve_mode
        # The other mode is only a wish, that an older daemon may ignore.
        limits = limits.with_caps("source.image.resolvemode") if resolve_mode == "pull" else limits
    if internal:
        attrs["image.recordtype"] = "internal"
    if layer_limit is not None:
        attrs["image.layerlimit"] = str(layer_limit)
        limits = limits.with_caps("source.image.layerlimit")
    if checksum:
        attrs["image.checksum"] = _read_digest(checksum)
        limits = limits.with_caps("source.image.checksum")
    if resolver is None:
        return _state(f"docker-image://{reference}", attrs, limits)
    found = resolver(str(reference), limits.platform or default_platform(), resolve_mode)
    if resolve_digest and reference.digest is None:
        reference = Reference.parse(found.ref)
        reference = replace(reference, digest=Digest(_read_digest(found.digest))) if found.digest else reference
    return _state(f"docker-image://{reference}", attrs, limits).with_image_config(found.config)


def oci_layout(
    ref: str,
    *,
    session_id: str = "",
    store_id: str = "",
    layer_limit: int | None = None,
    **constraints: Unpack[ConstraintOptions],
) -> State:
    """Return the file tree of an image in an OCI image layout that the session serves.

    Args:
        ref: Any name, and the digest behind an ``@``.
        session_id: The session that serves it; empty for the build's.
        store_id: The name that the session serves the layout under; empty for the one in ``ref``.
        layer_limit: Take only so many of its layers.
        **constraints: See :class:`ConstraintOptions`.

    Reference: client/llb/source.go, OCILayout.
    """
    if not ref:
        raise OptionError("an image layout has no reference", hint="for example oci_layout('app@sha256:...')")
    attrs = _given({"oci.session": session_id, "oci.store": store_id})
    if layer_limit is not None:
        attrs["oci.layerlimit"] = str(layer_limit)
    return _state(f"oci-layout://{ref}", attrs, Constraints.of(**constraints).with_caps("source.ocilayout"))


def local(
    name: str,
    *,
    include_patterns: Sequence[str] = (),
    exclude_patterns: Sequence[str] = (),
    follow_paths: Sequence[str] = (),
    shared_key_hint: str = "",
    session_id: str = "",
    unique_id: str = "",
    differ: Differ | None = None,
    differ_required: bool = False,
    metadata_only: bool = False,
    metadata_only_exceptions: Sequence[str] = (),
    **constraints: Unpack[ConstraintOptions],
) -> State:
    """Return a directory of the client: one of the ``local_dirs`` of the solve.

    Args:
        name: Its name there.
        include_patterns: Send only what matches.
        exclude_patterns: Leave out what matches.
        follow_paths: Send only these, and what links among them point to.
        shared_key_hint: Directories with the same hint share what the builder has of them.
        session_id: The session that serves it; then the graph is for this session only.
        unique_id: Sets it apart from directories of other builds; empty for what ``marshal`` has.
        differ: See :data:`Differ`; None for the builder's own.
        differ_required: Fail on a builder that does not know how.
        metadata_only: Send names, modes and times but no content.
        metadata_only_exceptions: Send these with content all the same.
        **constraints: See :class:`ConstraintOptions`.

    Reference: client/llb/source.go, Local.
    """
    if not name:
        raise OptionError("a local directory has no name", hint="it is the key in local_dirs, for example context")
    if differ not in (None, "none", "metadata"):
        raise OptionError(f"differ cannot be {differ!a}", hint="none or metadata")
    texts = {
        "session": session_id,
        "includepattern": _json_list("include_patterns", include_patterns),
        "followpaths": _json_list("follow_paths", follow_paths),
        "excludepatterns": _json_list("exclude_patterns", exclude_patterns),
        "sharedkeyhint": shared_key_hint,
    }
    caps = {"session": "sessionid", "includepattern": "includepatterns"}
    attrs = _given({f"local.{key}": text for key, text in texts.items()})
    needs = ["source.local", *(f"source.local.{caps.get(key, key)}" for key, text in texts.items() if text)]
    if differ is not None:
        attrs["local.differ"] = differ
        needs += ["source.local.differ"] if differ_required else []
    if metadata_only:
        exceptions = _json_list("metadata_only_exceptions", metadata_only_exceptions)
        attrs |= _given({"local.metadatatransfer": "true", "local.metadatatransferexclude": exceptions})
        needs.append("source.local.metadatatransfer")
    limits = Constraints.of(**constraints).with_caps(*needs)
    return State(Output(LocalOp(name, attrs, unique_id, limits), platform=limits.platform))


def git(
    url: str,
    fragment: str = "",
    *,
    ref: str = "",
    subdir: str = "",
    keep_git_dir: bool = False,
    checksum: str = "",
    auth_token_secret: str | None = None,
    auth_header_secret: str | None = None,
    known_ssh_hosts: str | Sequence[str] | None = None,
    mount_ssh_sock: str = "default",
    skip_submodules: bool = False,
    mtime: Literal["", "checkout", "commit"] = "",
    fetch_by_commit: bool = False,
    **constraints: Unpack[ConstraintOptions],
) -> State:
    """Return the files of a git repository.

    Args:
        url: An ``https``, ``http``, ``ssh`` or ``git`` address, or ``user@host:path``.
        fragment: ``ref`` or ``ref:subdir`` in one text.
        ref: Branch, tag or commit; the remote's default when empty.
        subdir: Take only this folder.
        keep_git_dir: Keep ``.git``.
        checksum: The commit that the ref must lead to, or a prefix of it.
        auth_token_secret: Name of the secret with a token; ``GIT_AUTH_TOKEN`` when None, none when empty.
        auth_header_secret: Name of the secret with a header; ``GIT_AUTH_HEADER`` when None, none when empty.
        known_ssh_hosts: For ``ssh``: lines as in ``known_hosts``. They must be given, for nothing here asks the
            network; an empty text means any host key will do.
        mount_ssh_sock: For ``ssh``: which agent of the session.
        skip_submodules: Leave submodules out.
        mtime: Time of the files: that of the checkout or of the commit.
        fetch_by_commit: Fetch ``checksum`` without asking where the ref leads.
        **constraints: See :class:`ConstraintOptions`.

    Raises:
        OptionError: The address is none, or a host key is missing.

    Reference: client/llb/source.go, Git.
    """
    remote = GitUrl.parse(url)
    fragment_ref, _, fragment_subdir = fragment.partition(":")
    subdir = subdir or go_path.join("/", fragment_subdir).removeprefix("/")
    attrs = {
        "git.fullurl": remote.remote,
        "git.authtokensecret": "GIT_AUTH_TOKEN" if auth_token_secret is None else auth_token_secret,
        "git.authheadersecret": "GIT_AUTH_HEADER" if auth_header_secret is None else auth_header_secret,
        "git.checksum": checksum,
        "git.mtime": mtime,
    }
    needs = ["source.git", "source.git.fullurl"]
    is_chosen = auth_token_secret is not None or auth_header_secret is not None
    if is_chosen and (attrs["git.authtokensecret"] or attrs["git.authheadersecret"]):
        needs.append("source.git.httpauth")
    if remote.scheme == "ssh":
        attrs |= {"git.knownsshhosts": _known_hosts(known_ssh_hosts), "git.mountsshsock": mount_ssh_sock or "default"}
        needs += ["source.git.knownsshhosts", "source.git.mountsshsock"]
    flags = {"keepgitdir": keep_git_dir, "skipsubmodules": skip_submodules, "fetchbycommit": fetch_by_commit}
    attrs |= {f"git.{name}": "true" for name, is_set in flags.items() if is_set}
    needs += [f"source.git.{name}" for name, is_set in flags.items() if is_set]
    needs += [f"source.git.{name}" for name in ("checksum", "mtime") if attrs[f"git.{name}"]]
    limits = Constraints.of(**constraints).with_caps(*needs)
    return _state(f"git://{remote.id(ref or fragment_ref, subdir)}", _given(attrs), limits)


def http(
    url: str,
    *,
    checksum: str = "",
    filename: str = "",
    chmod: int = 0,
    chown: tuple[int, int] = (0, 0),
    auth_header_secret: str = "",
    **constraints: Unpack[ConstraintOptions],
) -> State:
    """Return a file tree with one file from the web.

    Args:
        url: An ``http`` or ``https`` address.
        checksum: The digest that the file must have.
        filename: Its name; from the answer or the address when empty.
        chmod: Permission bits; 0 for 0o600.
        chown: User and group id.
        auth_header_secret: Name of the secret with the ``Authorization`` header.
        **constraints: See :class:`ConstraintOptions`.

    Raises:
        OptionError: The address is none, or an option is not possible.

    Reference: client/llb/source.go, HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise OptionError("not the address of a file on the web", why="it does not start with https:// or http://")
    if chmod & ~0o777:
        raise OptionError(f"not a mode: {chmod:#o}", why="only the bits 0o777 can be set here")
    uid, gid = chown
    attrs = _given(
        {
            "http.checksum": _read_digest(checksum) if checksum else "",
            "http.filename": filename,
            "http.perm": f"0{chmod:o}" if chmod else "",
            "http.uid": str(uid or ""),
            "http.gid": str(gid or ""),
            "http.authheadersecret": auth_header_secret,
        }
    )
    # The first word of one of these is misspelt in the protocol, too.
    caps = {
        "http.checksum": "source.http.checksum",
        "http.perm": "source.http.perm",
        "http.uid": "soruce.http.uidgid",
        "http.gid": "soruce.http.uidgid",
        "http.authheadersecret": "source.http.auth",
    }
    needs = ["source.http", *(caps[key] for key in attrs if key in caps)]
    return _state(url, attrs, Constraints.of(**constraints).with_caps(*needs))


def _state(identifier: str, attrs: dict[str, str], constraints: Constraints) -> State:
    return State(Output(SourceOp(identifier, attrs, constraints), platform=constraints.platform))


def _given(attrs: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in attrs.items() if text}


def _json_list(name: str, texts: Sequence[str]) -> str:
    """Return a list of texts as Go writes it; empty for an empty list."""
    quoted = ('"' + text.translate(_GO_JSON) + '"' for text in read_strings(name, texts))
    return "[" + ",".join(quoted) + "]" if texts else ""


def _known_hosts(lines: str | Sequence[str] | None) -> str:
    if lines is None:
        raise OptionError(
            "a git repository over ssh needs known_ssh_hosts",
            why="the builder would have to trust any host that answers",
            hint="give the lines that ssh-keyscan prints, or '' to trust any host",
        )
    entries = [lines] if isinstance(lines, str) else lines
    return "".join(entry.removesuffix("\n") + "\n" for entry in entries if entry)


def _read_digest(text: str) -> str:
    try:
        return Digest(text)
    except DigestError as exc:
        raise OptionError(str(exc), why=exc.why) from exc
