"""Named contexts that are OCI image layouts of ours: from the name in a layout's index to the digest the wire wants.

The daemon reads such an image blob by blob through the session, and asks for it by digest; which image a tag means is
written in a file on our side.

Reference: client/ociindex, StoreIndex.Get and GetSingle; frontend/dockerui/namedcontext.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.errors import BuildKitError, DigestError, LayoutError, OptionError
from buildkit_client.oci import media_types
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import MAX_DOCUMENT_BYTES
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.reference import DEFAULT_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from buildkit_client.oci.descriptor import Descriptor

_PREFIX = "oci-layout://"
_SHOWN_NAMES = 5


def resolve_layout_contexts(attrs: Mapping[str, str], layouts: Mapping[str, Path | str]) -> dict[str, str]:
    """Return a frontend's attributes with the digest of every image that an ``oci-layout://`` context names.

    Args:
        attrs: The attributes; other ones than ``context:…`` are returned as they are.
        layouts: Image layout by the name that contexts use.

    Raises:
        OptionError: A context names a layout that is not there, or what follows its ``@`` is no digest.
        LayoutError: A layout cannot be read, or has no such image.
    """
    resolved = dict(attrs)
    for key, value in attrs.items():
        if key.startswith("context:") and value.startswith(_PREFIX):
            resolved[key] = _resolve(key.removeprefix("context:"), value.removeprefix(_PREFIX), layouts)
    return resolved


def _resolve(name: str, spec: str, layouts: Mapping[str, Path | str]) -> str:
    rest, _, digest_text = spec.partition("@")
    store, tag = rest, ""
    if ":" in rest.rpartition("/")[2]:
        store, _, tag = rest.rpartition(":")
    if store not in layouts:
        served = f"served are {', '.join(sorted(layouts))}" if layouts else "no image layout is served"
        raise OptionError(
            f"context {name} names the image layout {store!r}, which is not served",
            why=served,
            hint="give its folder in layouts=",
        )
    layout = ImageLayout(layouts[store])
    if digest_text:
        try:
            digest = Digest(digest_text)
        except DigestError as exc:
            raise OptionError(f"context {name}: {exc}", why=exc.why) from exc
        if not layout.has_blob(digest):
            raise LayoutError(f"context {name}: {layout.path} has no image {digest}", hint=_names_hint(layout))
    else:
        digest = find_image(layout, tag).digest
    try:
        layout.read_small_blob(digest, limit=MAX_DOCUMENT_BYTES)
    except BuildKitError as exc:
        raise LayoutError(
            f"context {name}: the image {digest} in {layout.path} is damaged", why=str(exc), hint="copy it there again"
        ) from exc
    return f"{_PREFIX}{rest}@{digest}"


def find_image(layout: ImageLayout, tag: str = "") -> Descriptor:
    """Return the image of a name or tag.

    Args:
        layout: The image layout.
        tag: What to look for; empty takes ``latest``, or else the only image there is.

    Raises:
        LayoutError: There is no such image, or the index cannot be read.
    """
    if not layout.has_index():
        raise LayoutError(
            f"{layout.path} has no index.json", why="it says which image has which name", hint="name a digest"
        )
    found = layout.find(tag or DEFAULT_TAG)
    if found is None and not tag:
        images = layout.read_index().manifests
        found = images[0] if len(images) == 1 else None
    if found is None:
        raise LayoutError(f"{layout.path} has no image {(tag or DEFAULT_TAG)[:200]!r}", hint=_names_hint(layout))
    return found


def _names_hint(layout: ImageLayout) -> str:
    keys = (media_types.ANNOTATION_IMAGE_NAME, media_types.ANNOTATION_REF_NAME)
    names = [
        next((entry.annotations[key] for key in keys if key in entry.annotations), str(entry.digest))
        for entry in layout.read_index().manifests
    ]
    if not names:
        return "its index.json names no image"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"it has {', '.join(names[:_SHOWN_NAMES])}{more}"
