"""Images between a registry and a layout through a builder: for registries that only the builder can reach.

Whatever happens to the bytes on the way, an image arrives under the digest that it had, or not at all.

*Pulling* takes any image: the builder fetches blob after blob for us, and we hash what comes. Manifests are read from
the builder's content store, where it puts them when it looks an image up, since many registries give a manifest only
to those who name its media type, which the builder's source for blobs does not.

*Pushing* is more limited, for a builder sends only what it wrote itself: it gets the layers and the config from the
session, and writes the manifest anew. It writes the same bytes again for what BuildKit made, as a rule. A first build
without a push tells; when its digest is another one, nothing is sent.

Logins come from the session, as for builds. Calls block; with an asynchronous client make a
:class:`~buildkit_client.client.Client` for them, and call them with ``asyncio.to_thread``.

Reference: source/containerblob; util/imageutil/config.go, Config; exporter/containerimage/writer.go.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from buildkit_client._proto import gateway_pb2
from buildkit_client.errors import (
    BlobNotFoundError,
    BuildKitError,
    DigestChangedError,
    DigestMismatchError,
    ImageFormatError,
    OptionError,
    RegistryError,
    SolveError,
)
from buildkit_client.image_rebuild import ImageRebuild
from buildkit_client.llb.constraints import Constraints
from buildkit_client.llb.source import SourceOp
from buildkit_client.llb.state import State
from buildkit_client.llb.vertex import Output
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest
from buildkit_client.oci.image import MAX_DOCUMENT_BYTES, ImageManifest, guess_media_type, parse_manifest
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.transfer import WORKERS
from buildkit_client.oci.transfer import pull_image as pull_from
from buildkit_client.transport.apart import apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildkit_client.client import Client
    from buildkit_client.gateway import Gateway
    from buildkit_client.gateway import Reference as Result
    from buildkit_client.oci.credentials import CredentialsProvider
    from buildkit_client.oci.layout import ImageLayout
    from buildkit_client.oci.transfer import ProgressCallback
    from buildkit_client.running import RunningBuild

_READ_BYTES = 4 << 20
_BLOB_FILE = "blob"
_CAPABILITY = "source.imageblob"
_TOKEN_HINT = (
    "where only the builder reaches the registry's token server, set BUILDKIT_NO_CLIENT_TOKEN=true: the builder gets"
    " the password then"
)


class BuilderRegistry:
    """A registry as a builder sees it, for reading; a :class:`~buildkit_client.oci.repository.RegistryReader`.

    Made by :func:`open_registry`; may be used from several threads. What it reads stays in the builder's cache for a
    while, like what a build reads.

    Args:
        client: The builder.
        gateway: A build that is under way there.
        host: The registry.

    Attributes:
        host: The registry.
    """

    def __init__(self, client: Client, gateway: Gateway, host: str) -> None:
        self.host = host
        self._client = client
        self._gateway = gateway
        self._lock = threading.Lock()
        self._fetched: dict[str, Result] = {}
        self._has_blobs: bool | None = None

    def get_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Fetch a manifest or index.

        Returns:
            Its descriptor and its bytes, which have the digest.

        Raises:
            RegistryError: The builder cannot reach the registry, the registry refuses or has no such image, or the
                manifest is of an unknown kind.
            DigestMismatchError: The bytes have another digest than asked for.
            BuildKitError: The builder fails.
        """
        what = f"pull manifest {reference}"
        digest, data = self._manifest(reference, what)
        try:
            media_type = guess_media_type(data, str(reference))
            if media_type not in media_types.MANIFESTS:
                raise ImageFormatError(f"its media type is {media_type[:100]!a}, which is not in use any more")
        except ImageFormatError as exc:
            raise RegistryError(f"cannot {what} through the builder", host=self.host, why=str(exc)) from exc
        return Descriptor(media_type, digest, len(data)), data

    def _manifest(self, reference: Reference, what: str) -> tuple[Digest, bytes]:
        """Let the builder look an image up, and read from its store what it found."""
        lookup = partial(self._gateway.resolve_image, str(reference), mode="pull")
        try:
            digest = Digest(apart(lookup).digest)
        except SolveError as exc:
            if reference.digest is None or exc.kind == "auth":
                raise self._refusal(what, exc) from exc
            # A config that the builder does not know, or no image for its platform; the manifest may be there yet.
            with suppress(BlobNotFoundError):
                return reference.digest, self._client.history.read_blob(reference.digest)
            return reference.digest, self._read_document(reference, reference.digest, what, exc)
        if reference.digest not in (None, digest):
            raise DigestMismatchError(f"cannot {what}", why=f"the builder found another one: {digest}")
        try:
            return digest, self._client.history.read_blob(digest)
        except BlobNotFoundError:
            return digest, self._read_document(reference, digest, what, None)

    def _read_document(self, reference: Reference, digest: Digest, what: str, cause: SolveError | None) -> bytes:
        """Read a manifest as a blob, which some registries allow."""
        try:
            blob = self._fetch(reference, digest)
            data = apart(partial(blob.read_file, _BLOB_FILE, length=MAX_DOCUMENT_BYTES + 1))
        except SolveError as exc:
            raise self._refusal(what, cause or exc) from exc
        if len(data) > MAX_DOCUMENT_BYTES or Digest.of(data, digest.algorithm) != digest:
            raise DigestMismatchError(f"cannot {what} through the builder", why="it has other bytes than it should")
        return data

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the builder can get a blob for us, which it does for that.

        Raises:
            BuildKitError: The builder cannot reach the registry, the registry refuses, or the builder fails.
        """
        try:
            self._fetch(reference, digest)
        except SolveError as exc:
            if _is_missing(exc):
                return False
            raise self._refusal(f"look for blob {digest} in {reference.name}", exc) from exc
        return True

    def read_blob(self, reference: Reference, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """Yield a blob's bytes in chunks of at most 4 MiB.

        Args:
            reference: Any image of the repository.
            descriptor: The blob.
            offset: How many bytes of it the caller has; the digest is the caller's to check then.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            RegistryError: The builder cannot reach the registry, the registry refuses, or the blob has another size.
            DigestMismatchError: The bytes are others; raised after the last of them.
            BuildKitError: The builder fails.
        """
        what = f"pull blob {descriptor.digest} from {reference.name}"
        hasher = descriptor.digest.new_hash()
        is_whole = offset == 0
        try:
            blob = self._fetch(reference, descriptor.digest)
            size = apart(partial(blob.stat, _BLOB_FILE)).size
            if size != descriptor.size_bytes:
                raise RegistryError(
                    f"cannot {what} through the builder",
                    host=self.host,
                    why=f"it has {size} bytes; expected {descriptor.size_bytes}",
                )
            while offset < size:
                chunk = apart(partial(blob.read_file, _BLOB_FILE, offset=offset, length=_READ_BYTES))
                offset += len(chunk)
                hasher.update(chunk)
                yield chunk
                if not chunk:
                    raise RegistryError(f"cannot {what} through the builder", host=self.host, why="it ended too early")
        except SolveError as exc:
            if _is_missing(exc):
                raise BlobNotFoundError(f"{reference.name} has no blob {descriptor.digest}", why=str(exc)) from exc
            raise self._refusal(what, exc) from exc
        found = Digest.from_hash(hasher)
        if is_whole and found != descriptor.digest:
            raise DigestMismatchError(f"cannot {what}", why=f"the bytes that came have the digest {found}")

    def _fetch(self, reference: Reference, digest: Digest) -> Result:
        """Let the builder fetch a blob; return the file tree that has it as one file."""
        blob = f"{reference.name}@{digest}"
        with self._lock:
            if blob in self._fetched:
                return self._fetched[blob]
        self._check_capability()
        limits = Constraints.of(custom_name=f"[relay] {blob}").with_caps(_CAPABILITY)
        source = SourceOp(f"docker-image+blob://{blob}", {"http.filename": _BLOB_FILE}, limits)
        graph = State(Output(source)).marshal()
        result = apart(partial(self._gateway.solve, graph, evaluate=True)).ref
        if result is None:
            raise BlobNotFoundError(f"the builder made nothing of blob {digest} of {reference.name}")
        with self._lock:
            return self._fetched.setdefault(blob, result)

    def _check_capability(self) -> None:
        if self._has_blobs is None:
            ask = partial(self._gateway.call, "Ping", gateway_pb2.PingRequest(), gateway_pb2.PongResponse)
            self._has_blobs = any(cap.ID == _CAPABILITY and cap.Enabled for cap in apart(ask).LLBCaps)
        if not self._has_blobs:
            raise OptionError(
                "this builder cannot read an image's blobs for us",
                why=f"its BuildKit is too old: it has no {_CAPABILITY}",
                hint="use a newer BuildKit, or a machine that reaches the registry itself",
            )

    def _refusal(self, what: str, exc: SolveError) -> RegistryError:
        status = 404 if _is_missing(exc) else 401 if exc.kind == "auth" else 0
        hint = exc.hint or "the builder must know how to reach the registry: see [registry] in its buildkitd.toml"
        why = f"{exc}: {exc.why}" if exc.why else str(exc)
        return RegistryError(f"cannot {what} through the builder", host=self.host, status=status, why=why, hint=hint)


@contextmanager
def open_registry(
    client: Client, registry: Reference, *, credentials: CredentialsProvider | None = None
) -> Iterator[BuilderRegistry]:
    """Read from a registry through a builder.

    Args:
        client: The builder.
        registry: Any reference to an image in it.
        credentials: Finds the login; without it docker's configuration is read.

    Raises:
        ConnectError: The builder cannot be reached.
        CredentialsError: In place of an error of the block: the login that the builder asked for cannot be found out.
    """
    with client.start_gateway(credentials=credentials, internal=True) as running:
        held = _HeldGateway(running)
        try:
            yield BuilderRegistry(client, held.gateway(), registry.registry_host)
        except BuildKitError as exc:
            explained = held.end(exc)
            if explained is None or explained is exc:
                raise
            _add_token_hint(explained)
            raise explained from exc
        except BaseException:
            running.cancel()
            raise
        finally:
            held.end(None)


class _HeldGateway:
    """A gateway build whose function waits until the block around it ends."""

    def __init__(self, running: RunningBuild) -> None:
        self._outcome: BuildKitError | None = None
        self._started: SimpleQueue[Gateway | None] = SimpleQueue()
        self._verdict: SimpleQueue[BuildKitError | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(running,), name="build-relay", daemon=True)
        self._thread.start()

    def gateway(self) -> Gateway:
        """Wait until the build is under way.

        Raises:
            BuildKitError: It cannot begin.
        """
        gateway = self._started.get()
        if gateway is None:
            raise self._outcome or BuildKitError("the builder ended the transfer before it began")
        return gateway

    def end(self, error: BuildKitError | None) -> BuildKitError | None:
        """End the build, with an error where there is one; return what the build ended with."""
        self._verdict.put(error)
        self._thread.join()
        return self._outcome

    def _run(self, running: RunningBuild) -> None:
        try:
            running.run(self._hold)
        except BuildKitError as exc:
            self._outcome = exc
        finally:
            self._started.put(None)

    def _hold(self, gateway: Gateway) -> None:
        self._started.put(gateway)
        error = self._verdict.get()
        if error is not None:
            raise error


def pull_image(
    client: Client,
    name: str,
    layout: ImageLayout,
    *,
    platform: Platform | None = None,
    credentials: CredentialsProvider | None = None,
    on_progress: ProgressCallback | None = None,
    workers: int = WORKERS,
) -> Descriptor:
    """Copy an image from a registry into a layout through a builder; the layout's index is left to the caller.

    Blobs that the layout has are not fetched again.

    Args:
        client: The builder.
        name: The image, with host; by tag or digest.
        layout: Takes the blobs.
        platform: Which image to take from an index; None takes the index and everything in it.
        credentials: Finds the login; without it docker's configuration is read.
        on_progress: Called from the worker threads, after each chunk.
        workers: How many blobs are fetched at once.

    Returns:
        The descriptor of what was copied.

    Raises:
        RegistryError: The builder cannot reach the registry, or the registry refuses or has no (such) image.
        BlobNotFoundError: It has an image of which a part is missing.
        DigestMismatchError: Other bytes came than should.
        LayoutError: The layout cannot be written.
        OptionError: The name is no reference, or the builder is too old.
        BuildKitError: The builder cannot be reached, or fails.
    """
    reference = Reference.parse(name)
    with open_registry(client, reference, credentials=credentials) as registry:
        return pull_from(registry, reference, layout, platform=platform, on_progress=on_progress, workers=workers)


def push_image(
    client: Client,
    layout: ImageLayout,
    descriptor: Descriptor,
    names: Sequence[str],
    *,
    by_digest: bool = False,
    insecure: bool = False,
    credentials: CredentialsProvider | None = None,
) -> None:
    """Copy an image from a layout to a registry through a builder.

    Layers are sent as they are, and only those that the registry lacks.

    Args:
        client: The builder.
        layout: Has the image.
        descriptor: Its index or image manifest.
        names: Where to store it, with host; with tags, or none of them with one where it is stored by digest.
        by_digest: Store it without a tag.
        insecure: The registry speaks plain HTTP, or has a certificate that cannot be verified.
        credentials: Finds the login; without it docker's configuration is read.

    Raises:
        DigestChangedError: The builder would write another manifest; nothing was sent.
        LayoutError: A part of the image is damaged.
        BlobNotFoundError: A part of it is missing.
        ImageFormatError: One of its documents is malformed.
        RegistryError: The builder cannot reach the registry, or the registry refuses.
        BuildKitError: The builder cannot be reached, or fails.
    """
    for part in layout.walk(descriptor):
        layout.check_size(part)
    rebuild = ImageRebuild(layout, descriptor)

    def run(push_to: Sequence[str]) -> str:
        exporter = rebuild.exporter(push_to, by_digest=by_digest, insecure=insecure)
        done = client.run_gateway(
            rebuild.run, exporters=[exporter], layouts=rebuild.layouts, credentials=credentials, internal=True
        )
        return done.exporter_response.get("containerimage.digest", "")

    _check_same(client, layout, descriptor, run(()))
    try:
        _check_same(client, layout, descriptor, run(names))
    except RegistryError as exc:
        _add_token_hint(exc)
        raise
    except SolveError as exc:
        host = Reference.parse(names[0]).registry_host
        why = f"{exc}: {exc.why}" if exc.why else str(exc)
        status = 401 if exc.kind == "auth" else 0
        raise RegistryError(
            f"cannot push {', '.join(names)} through the builder", host=host, status=status, why=why, hint=exc.hint
        ) from exc


def _check_same(client: Client, layout: ImageLayout, wanted: Descriptor, found: str) -> None:
    """Make sure that the builder writes the image that it got.

    Raises:
        DigestChangedError: It does not.
    """
    if found != wanted.digest:
        raise DigestChangedError(
            f"image {wanted.digest} cannot be pushed through the builder as it is",
            why=f"the builder writes manifests anew, and would make {found or 'none'} of it: "
            + _difference(client, layout, wanted, found),
            hint="push it from a machine that reaches the registry, or build it again with this builder",
        )


def _difference(client: Client, layout: ImageLayout, wanted: Descriptor, found: str) -> str:
    """Say what is different, as far as that can be found out."""
    try:
        before = layout.read_manifest(wanted)
        after = parse_manifest(client.history.read_blob(found), wanted.media_type)
    except BuildKitError:
        return "a manifest of another kind"
    if isinstance(before, ImageManifest) and isinstance(after, ImageManifest):
        if [one.digest for one in before.layers] != [one.digest for one in after.layers]:
            return "its layers are others"
        if before.config.digest != after.config.digest:
            return "its config is written differently"
    elif [one.digest for one in before.children] != [one.digest for one in after.children]:
        return "the images in its index are written differently"
    return "its manifest is written differently, as other programs than BuildKit do"


def _add_token_hint(exc: BuildKitError) -> None:
    """Add what helps when it was us who asked a token server in vain."""
    if isinstance(exc, RegistryError) and exc.status == 0:
        exc.hint = "; ".join(filter(None, (exc.hint, _TOKEN_HINT)))


def _is_missing(exc: SolveError) -> bool:
    """Whether a registry said that it has no such thing."""
    text = exc.details.message.lower()
    return "404 not found" in text or "not found" in text.rsplit(":", 1)[-1]
