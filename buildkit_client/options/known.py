"""The keys that the daemon knows, so that a misspelt one is an error here and not silently without effect there.

The daemon takes attributes as maps of texts, and what it does not know it ignores or copies into the result. How strict
we are follows from that:

- A cache's attributes are a closed set: every other key is an error.
- An exporter copies unknown keys into the result's metadata, and a Dockerfile may name a frontend that takes any key:
  only a key that is nearly a known one is an error.
- An unknown type or frontend is an error.

``lenient=True`` lets everything pass that is not nearly a known word, as ``buildctl`` does; daemons newer than this
table may know more.

Reference: exporter/containerimage/exptypes/keys.go; exporter/local/fs.go; cache/remotecache; frontend/dockerui.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_COMPRESSION = frozenset({"compression", "compression-level", "force-compression"})
_IMAGE = _COMPRESSION | {
    "name",
    "oci-mediatypes",
    "oci-artifact",
    "attestation-inline",
    "prefer-nondist-layers",
    "rewrite-timestamp",
    "source-date-epoch",
}
_FILES = frozenset({"platform-split", "attestation-prefix", "source-date-epoch"})
_DAEMON_IMAGE = _IMAGE | {
    "push",
    "push-by-digest",
    "registry.insecure",
    "unpack",
    "store",
    "name-canonical",
    "dangling-name-prefix",
    "danging-name-empty-only",
}

EXPORTER_KEYS = {
    "image": _DAEMON_IMAGE,
    "moby": _DAEMON_IMAGE,
    "oci": _IMAGE | {"tar"},
    "docker": _IMAGE | {"tar"},
    "local": _FILES | {"mode"},
    "tar": _FILES,
}
"""Attributes of each exporter. ``dest`` is not among them: it says where we put the result, and is never sent."""

ANNOTATION_FAMILIES = (
    "annotation",
    "annotation-manifest",
    "annotation-manifest-descriptor",
    "annotation-index",
    "annotation-index-descriptor",
)

_EXPORT = frozenset({"mode", "ignore-error"})
_MANIFEST = _COMPRESSION | {"image-manifest", "oci-mediatypes"}
_GHA = frozenset({"scope", "url", "url_v2", "token", "version", "timeout"})
_NAMED_STORE = frozenset({"name", "prefix", "blobs_prefix", "manifests_prefix", "secret_access_key"})
_S3 = _NAMED_STORE | {
    "bucket",
    "region",
    "endpoint_url",
    "access_key_id",
    "session_token",
    "use_path_style",
    "disable_accept_encoding",
    "retry_mode",
    "retry_max_attempts",
}
_AZBLOB = _NAMED_STORE | {"account_url", "account_name", "container"}

CACHE_EXPORT_KEYS = {
    "inline": _EXPORT,
    "registry": _EXPORT | _MANIFEST | {"ref", "registry.insecure"},
    "local": _EXPORT | _MANIFEST | {"dest", "tag", "reset"},
    "gha": _EXPORT | _GHA | {"repository", "ghtoken"},
    "s3": _EXPORT | _S3 | {"touch_refresh", "upload_parallelism"},
    "azblob": _EXPORT | _AZBLOB,
}
"""Attributes of each cache for exporting, those that only the client reads included."""

CACHE_IMPORT_KEYS = {
    "registry": frozenset({"ref", "registry.insecure"}),
    "local": frozenset({"src", "digest", "tag"}),
    "gha": _GHA,
    "s3": _S3,
    "azblob": _AZBLOB,
}
"""Attributes of each cache for importing, those that only the client reads included."""

DOCKERFILE_KEYS = frozenset(
    {
        "add-hosts",
        "cache-from",
        "cache-imports",
        "cgroup-parent",
        "cmdline",
        "context",
        "contextkey",
        "contextsubdir",
        "cpuperiod",
        "cpuquota",
        "cpusetcpus",
        "cpusetmems",
        "cpushares",
        "dockerfilekey",
        "filename",
        "force-network-mode",
        "frontend.caps",
        "hostname",
        "image-resolve-mode",
        "memory",
        "memswap",
        "multi-platform",
        "no-cache",
        "platform",
        "requestid",
        "shm-size",
        "source",
        "target",
        "ulimit",
    }
)
"""Attributes of ``dockerfile.v0`` that have one name."""
DOCKERFILE_FAMILIES = frozenset(
    {"attest", "build-arg", "context", "input-metadata", "label", "local-sessionid", "sharedkey", "vcs"}
)
"""What stands before the colon of attributes that have many names."""
ATTESTATION_TYPES = frozenset({"provenance", "sbom"})
FRONTENDS = frozenset({"dockerfile.v0", "gateway.v0"})

_REMOVED = {"override-copy-image": "BuildKit 0.11"}
_ALIASES = {
    "insecure": "registry.insecure",
    "annotations": "annotation",
    "dangling-name-empty-only": "danging-name-empty-only",
}
_SEPARATORS = re.compile(r"[-_. ]")
_NEAR = 0.8  # difflib's ratio from which on a word counts as misspelt
_LIKE = 0.6  # from which on it is worth mentioning


def check_exporter(kind: str, attrs: Collection[str], *, lenient: bool = False) -> None:
    """Refuse an exporter or attributes that the daemon does not know.

    Args:
        kind: The exporter's name on the wire.
        attrs: Its attributes' names.
        lenient: Refuse only what is nearly a known word.

    Raises:
        OptionError: The type is not known, or a key is nearly a known one; the error names that one.
    """
    _check_type(kind, EXPORTER_KEYS, "exporter", lenient=lenient)
    known = EXPORTER_KEYS.get(kind, frozenset())
    has_annotations = "name" in known
    for key in attrs:
        family, dot, _ = key.partition(".")
        family = family.partition("[")[0]
        if key in known or (has_annotations and dot and family in ANNOTATION_FAMILIES):
            continue
        if key == "dest":
            continue  # where our side puts the result: its checks are about something else
        if has_annotations and dot and (right := _near(family, ANNOTATION_FAMILIES)):
            raise _misspelt(f"exporter {kind}", key, right + key[len(family) :])
        if right := _near(key, known):
            raise _misspelt(f"exporter {kind}", key, right)


def check_cache_export(kind: str, attrs: Collection[str], *, lenient: bool = False) -> None:
    """Refuse a cache to export to, or attributes of it, that the daemon does not know.

    Args:
        kind: The cache's name on the wire.
        attrs: Its attributes' names.
        lenient: Refuse only what is nearly a known word.

    Raises:
        OptionError: The type or a key is not known; the error names the nearest.
    """
    _check_type(kind, CACHE_EXPORT_KEYS, "cache", lenient=lenient)
    _check_closed(f"cache export {kind}", attrs, CACHE_EXPORT_KEYS.get(kind), lenient=lenient)


def check_cache_import(kind: str, attrs: Collection[str], *, lenient: bool = False) -> None:
    """Refuse a cache to import from, or attributes of it, that the daemon does not know.

    A key that only exporting knows passes, so that one map of attributes may serve both ways.

    Args:
        kind: The cache's name on the wire.
        attrs: Its attributes' names.
        lenient: Refuse only what is nearly a known word.

    Raises:
        OptionError: The type or a key is not known; the error names the nearest.
    """
    if kind == "inline" and not lenient:
        raise OptionError(
            "an inline cache cannot be imported by that name",
            why="it lies inside an image",
            hint="import it as a registry cache whose ref is the image",
        )
    _check_type(kind, CACHE_IMPORT_KEYS | {"inline": frozenset()}, "cache", lenient=lenient)
    known = CACHE_IMPORT_KEYS.get(kind)
    both = known if known is None else known | CACHE_EXPORT_KEYS[kind]
    _check_closed(f"cache import {kind}", attrs, both, lenient=lenient)


def check_frontend_attrs(name: str, attrs: Collection[str], *, lenient: bool = False) -> None:
    """Refuse a frontend, or attributes of ``dockerfile.v0``, that are misspelt.

    Args:
        name: The frontend's name on the wire.
        attrs: Its attributes' names.
        lenient: Refuse only what is nearly a known word.

    Raises:
        OptionError: The frontend is not known, or a key is nearly a known one; the error names that one.
    """
    _check_type(name, FRONTENDS, "frontend", lenient=lenient)
    if name == "gateway.v0":
        if "source" not in attrs:
            right = _similar("source", attrs, _NEAR)
            raise OptionError(
                "frontend gateway.v0 needs an image that does the work",
                hint=f"write source instead of {right!r}" if right else "give its name as source",
            )
        return  # the image says which attributes there are
    if name != "dockerfile.v0":
        return
    for key in attrs:
        family, colon, rest = key.partition(":")
        if key in _REMOVED:
            raise OptionError(f"attribute {key} was removed in {_REMOVED[key]}")
        if colon:
            if family == "attest" and rest not in ATTESTATION_TYPES:
                right = _similar(rest, ATTESTATION_TYPES, _LIKE)
                raise _misspelt("frontend dockerfile.v0", key, f"attest:{right}" if right else "", ATTESTATION_TYPES)
            if family not in DOCKERFILE_FAMILIES and (right := _near(family, DOCKERFILE_FAMILIES)):
                raise _misspelt("frontend dockerfile.v0", f"{family}:", f"{right}:")
        elif key not in DOCKERFILE_KEYS and (right := _near(key, DOCKERFILE_KEYS)):
            raise _misspelt("frontend dockerfile.v0", key, right)


def _check_type(kind: str, known: Collection[str], what: str, *, lenient: bool) -> None:
    if kind in known:
        return
    right = _near(kind, known) or ("" if lenient else _similar(kind, known, _LIKE))
    if right or not lenient:
        raise OptionError(
            f"unknown {what} {kind[:100]!r}",
            why=f"did you mean {right}?" if right else "",
            hint=f"known are {', '.join(sorted(known))}",
        )


def _check_closed(what: str, attrs: Iterable[str], known: Collection[str] | None, *, lenient: bool) -> None:
    if known is None:
        return
    for key in attrs:
        if key in known:
            continue
        right = _near(key, known)
        if right or not lenient:
            raise _misspelt(what, key, right or _similar(key, known, _LIKE), known)


def _near(word: str, known: Collection[str]) -> str:
    """Return the known word that a misspelt one means, or an empty text when it is a word of its own."""
    if (alias := _ALIASES.get(word)) in known and alias:
        return alias
    plain = {_plain(candidate): candidate for candidate in sorted(known)}
    if found := plain.get(_plain(word)):
        return found
    swapped = [one for one in sorted(known) if len(one) == len(word) and sorted(one) == sorted(word)]
    return swapped[0] if swapped else _similar(word, known, _NEAR)


def _similar(word: str, known: Collection[str], cutoff: float) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # needed only where something is wrong

    found = get_close_matches(word, sorted(known), n=1, cutoff=cutoff)
    return found[0] if found else ""


def _plain(word: str) -> str:
    return _SEPARATORS.sub("", word).lower()


def _misspelt(what: str, key: str, right: str, known: Collection[str] = ()) -> OptionError:
    return OptionError(
        f"{what}: unknown attribute {key[:100]!r}",
        why=f"did you mean {right}?" if right else "",
        hint=f"known are {', '.join(sorted(known))}" if known else "",
    )


def checked_texts(where: str, attrs: Mapping[str, str]) -> Mapping[str, str]:
    """Return attributes, once it is sure that the wire can carry them.

    Args:
        where: Whose they are, for the error, which does not show the value.
        attrs: Value by name.

    Raises:
        OptionError: A value is no text, or has bytes that are not UTF-8.
    """
    for name, value in attrs.items():
        if not isinstance(value, str):
            raise OptionError(f"{where}: the value of {name!r} is a {type(value).__name__}", hint="give it as text")
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise OptionError(f"{where}: the value of {name!r} is not UTF-8", why=exc.reason) from exc
    return attrs
