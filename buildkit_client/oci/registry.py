"""A client for registries: manifests, blobs and tags over the OCI distribution API.

Bytes that come in are hashed before anyone gets to rely on them, whatever the registry's headers say. Calls block; one
client may be used from several threads and keeps its connections.

Reference: OCI distribution-spec v1.1, "Pull", "Push", "Content Discovery".
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from buildkit_client.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ImageFormatError,
    OptionError,
    RegistryError,
)
from buildkit_client.oci import media_types
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import CHUNK_BYTES, Digest, is_digest
from buildkit_client.oci.image import (
    MAX_BLOBS,
    MAX_DOCUMENT_BYTES,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    guess_media_type,
    parse_index,
    parse_manifest,
    select_image,
)
from buildkit_client.oci.json_document import get_strings, parse_object
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry_auth import RegistryAuth
from buildkit_client.oci.registry_http import Answer, BodyBrokenError, RegistryHttp, Request, scopes_for
from buildkit_client.oci.registry_upload import BlobUpload
from buildkit_client.oci.token import HostSecurity, HttpOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from buildkit_client.oci.credentials import CredentialsProvider

READ_TIMEOUT_S = 120.0
"""How long a registry may take for the next bytes of an answer; storing a large blob takes some a while."""
CONNECTIONS = 8

_ACCEPT = ", ".join(
    (
        media_types.OCI_INDEX,
        media_types.OCI_IMAGE_MANIFEST,
        media_types.DOCKER_MANIFEST_LIST,
        media_types.DOCKER_IMAGE_MANIFEST,
    )
)
_TAGS_A_PAGE = 1000
_MAX_TAGS = 1_000_000
_MAX_PAGES = 10_000
_MAX_TAGS_BYTES = 16 << 20
_NO_HEAD_STATUSES = frozenset({400, 405, 415, 501})
_LINK = re.compile(r'\s*<([^<>]*)>\s*;(?:[^,"]|"[^"]*")*\brel="?next"?', re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)")


class RegistryClient:
    """Talks to one registry.

    Args:
        registry: Its host, with port where it has one, or any reference to an image in it. Of a text without a slash
            is taken that it is a host.
        credentials: Knows the login; None means anonymous access.
        insecure: Whether certificates are not verified and plain HTTP is taken. Registries on this machine count as
            insecure in any case.
        http: TLS files, proxies, timeouts and attempts.
        chunk_bytes: Upload blobs in pieces of this size instead of in one; None for one.
        max_manifest_bytes: The largest manifest that is taken.
        read_timeout_s: For the next bytes of an answer.

    Raises:
        OptionError: The host is not one.
    """

    def __init__(
        self,
        registry: str | Reference,
        credentials: CredentialsProvider | None = None,
        *,
        insecure: bool = False,
        http: HttpOptions | None = None,
        chunk_bytes: int | None = None,
        max_manifest_bytes: int = MAX_DOCUMENT_BYTES,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        if isinstance(registry, str):
            registry = Reference.parse(registry if "/" in registry else f"{registry}/any")
        self.host = registry.registry_host
        self._home = registry
        options = http or HttpOptions()
        if insecure:
            security = options.hosts.get(self.host, HostSecurity())
            options = replace(options, hosts={**options.hosts, self.host: replace(security, insecure=True)})
        self._chunk_bytes = chunk_bytes
        self._max_manifest_bytes = max_manifest_bytes
        self._attempts = options.attempts
        self._sleep = options.sleep
        self._http = RegistryHttp(
            self.host,
            RegistryAuth(self.host, credentials, options),
            options,
            insecure=insecure,
            read_timeout_s=read_timeout_s,
            connections=CONNECTIONS,
        )

    def ping(self) -> None:
        """Make sure that there is a registry.

        Raises:
            RegistryError: It cannot be reached.
        """
        self._http.base_url()

    def close(self) -> None:
        """Close idle connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close idle connections."""
        self.close()

    # --- manifests ---

    def resolve(self, reference: Reference) -> Descriptor:
        """Return what a tag or digest stands for, without its content where the registry allows that.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or has no such image.
            DigestMismatchError: The registry answers with another manifest than the digest asked for.
        """
        what = f"find {reference}"
        try:
            answer = self._get(what, reference, self._manifest_path(reference), method="HEAD", accept=_ACCEPT)
        except RegistryError as exc:
            if exc.status not in _NO_HEAD_STATUSES:
                raise
            return self.get_manifest(reference)[0]
        answer.close()
        digest, size = answer.headers.get("Docker-Content-Digest", ""), answer.headers.get("Content-Length", "")
        media_type = _media_type(answer)
        is_complete = is_digest(digest) and size.isascii() and size.isdigit() and media_type in media_types.MANIFESTS
        if not is_complete:
            return self.get_manifest(reference)[0]
        if reference.digest is not None and reference.digest.algorithm == Digest(digest).algorithm:
            self._check_digest(reference, Digest(digest), reference.digest)
        return Descriptor(media_type, Digest(digest), int(size[:18]))

    def get_manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Fetch a manifest or index.

        Returns:
            Its descriptor, with the digest of the bytes that came, and the bytes.

        Raises:
            RegistryError: The registry cannot be reached, refuses, has no such image, or sends too much or an
                unknown kind of manifest.
            DigestMismatchError: The bytes have another digest than asked for, or than the registry says.
        """
        what = f"pull manifest {reference}"
        answer = self._get(what, reference, self._manifest_path(reference), accept=_ACCEPT)
        data = self._read(answer, what, self._max_manifest_bytes)
        digest = Digest.of(data, reference.digest.algorithm if reference.digest else "sha256")
        if reference.digest is not None:
            self._check_digest(reference, digest, reference.digest)
        announced = answer.headers.get("Docker-Content-Digest", "")
        if announced:
            if not is_digest(announced):
                raise self._error(what, "its header Docker-Content-Digest is no digest")
            self._check_digest(reference, Digest.of(data, Digest(announced).algorithm), Digest(announced))
        try:
            media_type = _media_type(answer)
            if media_type not in media_types.MANIFESTS | media_types.SCHEMA1:
                media_type = guess_media_type(data, str(reference))
            if media_type not in media_types.MANIFESTS:
                raise ImageFormatError(f"its media type is {media_type[:100]!a}, which is not in use any more")
        except ImageFormatError as exc:
            raise self._error(what, str(exc)) from exc
        return Descriptor(media_type, digest, len(data)), data

    def push_manifest(self, reference: Reference, data: bytes, media_type: str) -> Descriptor:
        """Store a manifest or index under a tag or digest; everything it names must be there already.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or stored something else.
            OptionError: The reference has neither tag nor digest.
            DigestMismatchError: The bytes do not have the reference's digest.
        """
        digest = Digest.of(data, reference.digest.algorithm if reference.digest else "sha256")
        if reference.digest is not None:
            self._check_digest(reference, digest, reference.digest)
        what = f"push manifest {reference}"
        answer = self._send(
            what,
            reference,
            "PUT",
            self._manifest_path(reference),
            {"Content-Type": media_type},
            body=data,
            accepted=frozenset({200, 201, 202}),
            push=True,
        )
        answer.close()
        stored = answer.headers.get("Docker-Content-Digest", "")
        if is_digest(stored) and Digest(stored) != Digest.of(data, Digest(stored).algorithm):
            raise self._error(what, f"the registry stored it as {stored}; expected {digest}")
        return Descriptor(media_type, digest, len(data))

    def read_config(self, image: Reference | str, platform: Platform | None = None) -> ImageConfig:
        """Fetch an image's config.

        Args:
            image: The image; a text is a tag or digest in the repository that the client was made for.
            platform: What to choose from an index; None takes the first image that is no attestation.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or has no (such) image.
            BlobNotFoundError: The config is missing.
            DigestMismatchError: The registry sends other bytes than it should.
            OptionError: The text is neither a tag nor a digest.
        """
        if isinstance(image, str):
            image = self._home.with_digest(Digest(image)) if is_digest(image) else self._home.with_tag(image)
        reference = image
        root, data = self.get_manifest(reference)

        def read_manifest(descriptor: Descriptor) -> ImageManifest | ImageIndex:
            own = data if descriptor.digest == root.digest else None
            if own is None:
                own = self.get_manifest(reference.with_digest(descriptor.digest))[1]
            return parse_manifest(own, descriptor.media_type, f"manifest {descriptor.digest}")

        what = f"read the config of {reference}"
        try:
            config = select_image(root, platform, read_manifest)[1].config
            if config.size_bytes > self._max_manifest_bytes:
                raise self._error(what, f"it has {config.size_bytes} bytes; the limit is {self._max_manifest_bytes}")
            return ImageConfig.from_bytes(b"".join(self.read_blob(reference, config)), f"the config of {reference}")
        except ImageFormatError as exc:
            raise self._error(what, f"{exc}: {exc.why}" if exc.why else str(exc)) from exc

    # --- blobs ---

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether a repository has a blob.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        answer = self._get(
            f"look for blob {digest} in {reference.name}",
            reference,
            f"/v2/{reference.path}/blobs/{digest}",
            method="HEAD",
            accepted=frozenset({200, 404}),
        )
        answer.close()
        return answer.status == 200

    def read_blob(self, reference: Reference, descriptor: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """Yield a blob's bytes in chunks of at most 1 MiB; when the connection breaks, go on where it broke.

        Args:
            reference: Any image of the repository.
            descriptor: The blob.
            offset: How many bytes of it the caller has; the digest is the caller's to check then.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            RegistryError: The registry cannot be reached, refuses, or sends too few or too many bytes.
            DigestMismatchError: The bytes are others; raised after the last of them.
        """
        what = f"pull blob {descriptor.digest} from {reference.name}"
        hasher = descriptor.digest.new_hash()
        is_whole = offset == 0
        failures, why = 0, "it ended too early"
        while offset < descriptor.size_bytes or (offset == 0 and failures == 0):
            if failures >= self._attempts:
                raise self._error(what, f"{why}; {offset} of {descriptor.size_bytes} bytes came")
            if failures:
                self._sleep(0.5 * 2 ** (failures - 1))
            start = offset
            try:
                for chunk in self._blob_chunks(what, reference, descriptor, offset):
                    offset += len(chunk)
                    if offset > descriptor.size_bytes:
                        raise self._error(what, f"it is longer than {descriptor.size_bytes} bytes")
                    hasher.update(chunk)
                    yield chunk
            except BodyBrokenError as exc:
                why = str(exc)
            failures = 1 if offset > start else failures + 1
        found = Digest.from_hash(hasher)
        if is_whole and found != descriptor.digest:
            raise DigestMismatchError(f"cannot {what}", why=f"the bytes that came have the digest {found}")

    def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        open_chunks: Callable[[], Iterable[bytes]],
        *,
        mount_from: Reference | None = None,
    ) -> bool:
        """Store a blob in a repository unless it is there.

        Args:
            reference: Any image of the repository.
            descriptor: The blob.
            open_chunks: Gives the blob's bytes from the start each time it is called.
            mount_from: A repository of this registry that may have the blob; it is shared then, not sent.

        Returns:
            Whether its bytes were sent.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
        """
        self._check_host(reference)
        if self.has_blob(reference, descriptor.digest):
            return False
        upload = BlobUpload(self._http, reference, descriptor, open_chunks, self._chunk_bytes)
        failures = kept = 0
        while True:
            try:
                return upload.run(mount_from)
            except RegistryError as exc:
                failures = 1 if upload.kept_bytes > kept else failures + 1
                kept = max(kept, upload.kept_bytes)
                if failures >= self._attempts or not upload.may_try_again(exc):
                    raise
            self._sleep(0.5 * 2 ** (failures - 1))
            if self.has_blob(reference, descriptor.digest):
                return True  # it was stored; only the answer got lost

    # --- discovery ---

    def list_tags(self, reference: Reference) -> list[str]:
        """Return a repository's tags in the registry's order; may be empty.

        Raises:
            RegistryError: The registry cannot be reached, refuses, or pages in a circle.
        """
        what = f"list the tags of {reference.name}"
        accept = "application/json"
        first = self._get(what, reference, f"/v2/{reference.path}/tags/list?n={_TAGS_A_PAGE}", accept=accept)
        tags: list[str] = []
        for data in self._pages(what, reference, first, accept, _MAX_TAGS_BYTES):
            try:
                page = get_strings(parse_object(data, "the list of tags"), "tags", "the list of tags")
            except ImageFormatError as exc:
                raise self._error(what, str(exc)) from exc
            tags.extend(page)
            if len(tags) > _MAX_TAGS:
                raise self._error(what, f"it has more than {_MAX_TAGS} tags")
        return list(dict.fromkeys(tags))

    def list_referrers(self, reference: Reference) -> tuple[Descriptor, ...]:
        """Return the manifests that refer to one given by digest, such as signatures; may be empty.

        A registry without that API is asked for the tag that stands in for it.

        Raises:
            OptionError: The reference has no digest.
            RegistryError: The registry cannot be reached or refuses.
        """
        digest = reference.digest
        if digest is None:
            raise OptionError(f"{reference} has no digest", why="referrers belong to one manifest")
        what = f"list the referrers of {reference}"
        path = f"/v2/{reference.path}/referrers/{digest}"
        answer = self._get(what, reference, path, accept=media_types.OCI_INDEX, accepted=frozenset({200, 404}))
        pages: Iterable[bytes]
        if answer.status == 200:
            pages = self._pages(what, reference, answer, media_types.OCI_INDEX, self._max_manifest_bytes)
        else:
            answer.close()
            try:
                pages = [self.get_manifest(reference.with_tag(f"{digest.algorithm}-{digest.hex}"))[1]]
            except RegistryError as exc:
                if exc.status == 404:
                    return ()
                raise
        found: dict[Descriptor, None] = {}
        for data in pages:
            try:
                found.update(dict.fromkeys(parse_index(data, what="the list of referrers").manifests))
            except ImageFormatError as exc:
                raise self._error(what, str(exc)) from exc
            if len(found) > MAX_BLOBS:
                raise self._error(what, f"it has more than {MAX_BLOBS}")
        return tuple(found)

    # --- parts ---

    def _blob_chunks(self, what: str, reference: Reference, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from an offset, also from a registry that knows no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            answer = self._get(
                what,
                reference,
                f"/v2/{reference.path}/blobs/{descriptor.digest}",
                headers=headers,
                accepted=frozenset({200, 206}) if offset else frozenset({200}),
            )
        except RegistryError as exc:
            if exc.status == 404:
                raise BlobNotFoundError(str(exc), why=exc.why, hint=exc.hint) from exc
            raise
        skip = offset
        if answer.status == 206:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != offset:
                answer.close()
                raise self._error(what, "the registry sent another range than asked for")
            skip = 0
        for chunk in answer.chunks(CHUNK_BYTES):
            if skip >= len(chunk):
                skip -= len(chunk)
            else:
                yield chunk[skip:] if skip else chunk
                skip = 0

    def _pages(self, what: str, reference: Reference, answer: Answer, accept: str, limit: int) -> Iterator[bytes]:
        """Yield the bodies of a list's pages, the given answer first."""
        seen: set[str] = set()
        while True:
            data = self._read(answer, what, limit)
            url = self._next_page(answer, what)
            yield data
            if not url:
                return
            if url in seen:
                raise self._error(what, "its pages go in a circle")
            seen.add(url)
            if len(seen) >= _MAX_PAGES:
                raise self._error(what, f"it has more than {_MAX_PAGES} pages")
            answer = self._get(what, reference, url, accept=accept)

    def _next_page(self, answer: Answer, what: str) -> str:
        """Return the path of the page that a ``Link`` header names, empty for none."""
        match = _LINK.match(answer.headers.get("Link", ""))
        if match is None:
            return ""
        try:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(answer.url, match[1]))
        except ValueError:
            raise self._error(what, "its Link header is malformed") from None
        own = urllib.parse.urlsplit(answer.url)
        if target.netloc != own.netloc or target.path != own.path:
            raise self._error(what, "its Link header leads elsewhere")
        return f"{target.path}?{target.query}"

    def _manifest_path(self, reference: Reference) -> str:
        if not reference.identifier:
            raise OptionError(f"{reference} has neither tag nor digest")
        return f"/v2/{reference.path}/manifests/{reference.identifier}"

    def _get(
        self,
        what: str,
        reference: Reference,
        url: str,
        *,
        method: str = "GET",
        accept: str = "",
        headers: dict[str, str] | None = None,
        accepted: frozenset[int] = frozenset({200}),
    ) -> Answer:
        sent = {**(headers or {}), **({"Accept": accept} if accept else {})}
        return self._send(what, reference, method, url, sent, accepted=accepted)

    def _send(
        self,
        what: str,
        reference: Reference,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        body: bytes | None = None,
        accepted: frozenset[int],
        push: bool = False,
    ) -> Answer:
        self._check_host(reference)
        return self._http.send(
            Request(
                what=what,
                method=method,
                url=url,
                scopes=scopes_for(reference, push=push),
                headers=headers,
                body=body,
                accepted=accepted,
            )
        )

    def _check_host(self, reference: Reference) -> None:
        if reference.registry_host != self.host:
            raise OptionError(f"{reference} is not in registry {self.host}")

    def _read(self, answer: Answer, what: str, limit: int) -> bytes:
        try:
            return answer.read(limit)
        except BodyBrokenError as exc:
            raise self._error(what, str(exc)) from exc

    def _check_digest(self, reference: Reference, found: Digest, expected: Digest) -> None:
        if found != expected:
            raise DigestMismatchError(
                f"registry {self.host} has something else as {reference}", why=f"digest {found}; expected {expected}"
            )

    def _error(self, what: str, why: str) -> RegistryError:
        return RegistryError(f"cannot {what}", host=self.host, why=why)


def _media_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()
