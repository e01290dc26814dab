"""Caches of type ``local``: image layouts of ours that the daemon reads and writes through the session.

The daemon knows blobs only. Which of them is the cache of a tag is written in ``index.json`` on our side: read before a
build to name the digest, written after it. A cache that cannot be read costs time and nothing else, so it is left out
with a warning; a directory that cannot be written is an error before the build.

Reference: client/solve.go, parseCacheOptions and resetCacheStore; client/ociindex.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.errors import BuildKitError, DigestError, LayoutError, OptionError
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.reference import DEFAULT_TAG, is_tag
from buildkit_client.options import RawCache
from buildkit_client.session.content import LOCAL_STORE_PREFIX, ContentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from buildkit_client.options import Cache

RESPONSE_KEY = "cache.manifest"  # cache/remotecache/export.go, ExporterResponseManifestDesc
_BOOLS = {
    text: text[0] in "1tT" for text in ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False")
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Export:
    """A directory that gets a cache.

    Attributes:
        layout: The directory.
        tag: The cache's name in its index.
        is_reset: Whether what nothing leads to is deleted afterwards.
    """

    layout: ImageLayout
    tag: str
    is_reset: bool


@dataclass(frozen=True, slots=True)
class PreparedCaches:
    """A build's caches, ready to be asked for.

    Attributes:
        imports: For the request: local ones have their digest, those that cannot be read are left out.
        exports: For the request.
        stores: Content store by the id under which the daemon asks for it.
        warnings: Why imports were left out, a sentence each.
    """

    imports: tuple[Cache, ...]
    exports: tuple[Cache, ...]
    stores: Mapping[str, ContentStore] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    _local_exports: tuple[_Export, ...] = ()
    _warn: Callable[[str], object] = _log.warning
    _started_s: float = 0.0

    def finish(self, response: Mapping[str, str]) -> None:
        """Give a cache that was exported its name, after the build succeeded.

        Args:
            response: The daemon's answers; without ``cache.manifest`` there was nothing to export.

        Raises:
            LayoutError: An index cannot be written.
            ImageFormatError: The daemon's answer is no descriptor.
        """
        text = response.get(RESPONSE_KEY, "")
        if text:
            descriptor = Descriptor.from_json(_json(text), "the cache's descriptor")
            for export in self._local_exports:
                if export.layout.has_blob(descriptor.digest):
                    export.layout.add_image(descriptor, tag=export.tag)
                else:
                    # All cache exporters of a build share one answer, and the last one wins.
                    self._warn(
                        f"local cache at {export.layout.path} got no name: the build exported several caches, "
                        "and the daemon named the manifest of another one"
                    )
        for export in self._local_exports:
            if export.is_reset:
                self._reset(export.layout)

    def _reset(self, layout: ImageLayout) -> None:
        try:
            # What was written or kept since this build began may belong to a build that runs beside it.
            layout.prune(time.time() - self._started_s)
        except BuildKitError as exc:
            self._warn(f"local cache at {layout.path} was not cleaned up: {_with_reason(exc)}")


def prepare_caches(
    imports: Sequence[Cache], exports: Sequence[Cache], *, warn: Callable[[str], object] = _log.warning
) -> PreparedCaches:
    """Open the directories of local caches and find what is to be imported; other caches pass unchanged.

    One directory may be imported from and exported to in the same build.

    Args:
        imports: Caches to use.
        exports: Caches to write.
        warn: Gets a sentence for each import that is left out, and for a clean-up that fails.

    Raises:
        OptionError: A cache does not say where it is, or an attribute cannot work.
        LayoutError: A directory to export to cannot be made or is no image layout.
    """
    started_s = time.time()
    stores: dict[str, ContentStore] = {}
    warnings: list[str] = []
    kept: list[Cache] = []
    for cache in imports:
        attrs = cache.to_import_attrs()
        _require(cache.type, attrs, "src")
        if cache.type != "local":
            kept.append(cache)
            continue
        try:
            layout, digest = _find(attrs)
        except LayoutError as exc:
            warnings.append(f"local cache at {attrs['src']} is not used: {_with_reason(exc)}")
            warn(warnings[-1])
            continue
        stores[LOCAL_STORE_PREFIX + attrs["src"]] = ContentStore(layout)
        kept.append(RawCache("local", {**attrs, "digest": digest}, unchecked=True))
    local_exports: list[_Export] = []
    for cache in exports:
        attrs = cache.to_export_attrs()
        _require(cache.type, attrs, "dest")
        if cache.type != "local":
            continue
        export = _open_export(attrs)
        if any(other.layout.path == export.layout.path for other in local_exports):
            raise OptionError(f"two caches are exported to {attrs['dest']}", hint="give each a directory of its own")
        local_exports.append(export)
        stores[LOCAL_STORE_PREFIX + attrs["dest"]] = ContentStore(export.layout, writable=True)
    return PreparedCaches(tuple(kept), tuple(exports), stores, tuple(warnings), tuple(local_exports), warn, started_s)


def _find(attrs: Mapping[str, str]) -> tuple[ImageLayout, Digest]:
    """Return the image layout of a cache to import, and the digest of its manifest."""
    layout = ImageLayout(Path(attrs["src"]).absolute())
    if text := attrs.get("digest", ""):
        try:
            digest = Digest(text)
        except DigestError as exc:
            raise OptionError(f"the digest of a local cache is {exc}", why=exc.why) from exc
    else:
        tag = attrs.get("tag", DEFAULT_TAG)
        if not tag:
            raise OptionError("a local cache needs a tag or a digest", hint='leave the tag out for "latest"')
        found = layout.find(tag)
        if found is None:
            raise LayoutError(f"its index has no cache {tag!r}")
        digest = found.digest
    if not layout.has_blob(digest):
        raise LayoutError(f"its manifest {digest} is missing")
    return layout, digest


def _open_export(attrs: Mapping[str, str]) -> _Export:
    tag = attrs.get("tag", DEFAULT_TAG)
    if not is_tag(tag):
        raise OptionError(
            f"{tag[:200]!r} cannot be the tag of a local cache", why="a tag has up to 128 letters, digits and _ . -"
        )
    reset = attrs.get("reset", "false")
    if reset not in _BOOLS:
        raise OptionError(
            f'failed to parse reset attribute: strconv.ParseBool: parsing "{reset[:50]}": invalid syntax',
            hint="write true or false",
        )
    return _Export(ImageLayout.create(Path(attrs["dest"]).absolute()), tag, _BOOLS[reset])


def _require(kind: str, attrs: Mapping[str, str], place: str) -> None:
    key = {"local": place, "registry": "ref"}.get(kind)
    if key is not None and not attrs.get(key):
        raise OptionError(f"a {kind} cache does not say where it is", hint=f"give it the attribute {key}")


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None  # the descriptor's reader refuses it in its own words
    return value


def _with_reason(error: BuildKitError) -> str:
    return f"{error}: {error.why}" if error.why else str(error)
