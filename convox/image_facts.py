"""What an image is made of, as far as people compare images: layers, size, platforms, variables, build arguments.

It is read from the image's own documents, wherever they are, so it is known of imported images as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from convox.build_args import looks_secret
from convox.masking import mask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from buildkit_client.oci import Descriptor, Digest, ImageConfig

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Size of the largest config that is read."""

_CONFIG = re.compile(r"\.config\.|\.container\.image\.")  # of OCI, and of docker
_RUN = re.compile(r"^RUN (?:\|\d+ .*? )?/bin/sh -c ", re.DOTALL)
_UNSET = re.compile(r" ([A-Za-z_][A-Za-z0-9_]*)=(?= )")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ImageBlobs(Protocol):
    """Where an image's documents are read: :class:`buildkit_client.oci.ImageLayout` or ``RepositoryBlobs``."""

    def walk(self, descriptor: Descriptor) -> Iterator[Descriptor]:
        """Yield everything an image is made of, each manifest before what it names."""

    def read_blob(self, digest: Digest, size_bytes: int) -> Iterator[bytes]:
        """Yield a blob's bytes, checked."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is stored.

    Attributes:
        digest: Of the packed layer.
        size_bytes: Packed.
        command: What made it, by the image's history; empty where that does not say.
    """

    digest: str
    size_bytes: int
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What an image is made of.

    Attributes:
        digest: Of its index or manifest.
        platforms: For each image in it, in order.
        layers: Of all platforms, each once, in order.
        env: Variables of the first platform's image, by name.
        args: Build arguments that its history tells, by name; an argument without a value has an empty one.
    """

    digest: str
    platforms: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    args: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def size_bytes(self) -> int:
        """All layers together, packed."""
        return sum(layer.size_bytes for layer in self.layers)


def read_image_facts(blobs: ImageBlobs, root: Descriptor) -> ImageFacts:
    """Read what an image is made of.

    Args:
        blobs: Has its documents; layers are not read.
        root: Its index or image manifest.

    Raises:
        BuildKitError: A document is missing or damaged.
    """
    from buildkit_client.errors import ImageFormatError  # noqa: PLC0415 (not needed by every command)
    from buildkit_client.oci import ImageConfig  # noqa: PLC0415 (not needed by every command)

    configs: list[ImageConfig] = []
    layers: dict[str, Layer] = {}
    for config, parts in _images(blobs.walk(root)):
        if config.size_bytes > MAX_CONFIG_BYTES:
            raise ImageFormatError(f"the config {config.digest} is too large", why=f"it has {config.size_bytes} bytes")
        data = b"".join(blobs.read_blob(config.digest, config.size_bytes))
        found = ImageConfig.from_bytes(data, f"the config {config.digest}")
        commands = list(_layer_commands(found))
        for place, part in enumerate(parts):
            command = commands[place] if len(commands) == len(parts) else ""
            layers.setdefault(str(part.digest), Layer(str(part.digest), part.size_bytes, command))
        configs.append(found)
    return ImageFacts(
        digest=str(root.digest),
        platforms=tuple(str(config.platform) for config in configs),
        layers=tuple(layers.values()),
        env=_pairs(configs[0].environment) if configs else {},
        args=_args(configs[0]) if configs else {},
    )


def _images(parts: Iterable[Descriptor]) -> Iterator[tuple[Descriptor, list[Descriptor]]]:
    """Yield config and layers of each image on a walk, attestations left out."""
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    is_image = True
    for part in parts:
        if "manifest" in part.media_type or "index" in part.media_type:
            if config is not None:
                yield config, layers
            config, layers = None, []
            is_image = not part.is_attestation
        elif is_image and config is None and _CONFIG.search(part.media_type):
            config = part
        elif is_image:
            layers.append(part)
    if config is not None:
        yield config, layers


def _history(config: ImageConfig) -> Iterator[tuple[str, bool]]:
    """Yield each entry of an image's history: what was done, and whether it made a layer."""
    entries = config.document.get("history")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield str(entry.get("created_by") or ""), not entry.get("empty_layer")


def _layer_commands(config: ImageConfig) -> Iterator[str]:
    """Yield what made each layer, in one line, without the build arguments that RUN repeats."""
    secret = [value for name, value in _args(config).items() if looks_secret(name)]
    for command, is_layer in _history(config):
        if is_layer:
            text = mask(_RUN.sub("RUN ", command.removesuffix(" # buildkit")), secret)
            yield " ".join(text.split())


def _args(config: ImageConfig) -> dict[str, str]:
    entries = list(_history(config))
    unset = {name for command, _ in entries if command.startswith("RUN |") for name in _UNSET.findall(command)}
    found: dict[str, str] = {}
    for command, is_layer in entries:
        if not is_layer and command.startswith("ARG "):
            found |= _arg_values(command.removeprefix("ARG "), unset)
    return found


def _arg_values(text: str, unset: Collection[str]) -> dict[str, str]:
    """Return the arguments that one line of a Dockerfile declares, as its history has them: values without quotes.

    A word with ``=`` begins another argument, though it may belong to the value before it: it may also be a secret.
    One without does when a RUN tells that it has no value.
    """
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for word in text.split(" "):
        key, equals, value = word.partition("=")
        if _NAME.fullmatch(key) and (equals or not found or key in unset):
            found[key] = words = [value]
        else:
            words.append(word)
    return {name: " ".join(values) for name, values in found.items()}


def _pairs(items: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}
