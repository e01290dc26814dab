"""Sending one blob to a registry: shared from another repository, in one piece, or in chunks.

What a registry keeps of an upload that broke differs: one that says how much it has gets the rest, every other one gets
the blob from its start again.

Reference: OCI distribution-spec, "Pushing Blobs", "Resuming a push after failure", "Mounting a blob from another
repository".
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING

from buildkit_client.errors import CredentialsError, RegistryError
from buildkit_client.oci.registry_http import Answer, RegistryHttp, Request, scopes_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from buildkit_client.oci.descriptor import Descriptor
    from buildkit_client.oci.reference import Reference

DEFAULT_CHUNK_BYTES = 8 << 20
MAX_CHUNK_BYTES = 64 << 20

# 0: no answer; 404 and 416: the registry lost the upload or counts otherwise.
_LOST = frozenset({0, 404, 408, 416, 429, 500, 502, 503, 504})
_STORED = frozenset({200, 201, 204})  # the specification says 201
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_OCTETS = {"Content-Type": "application/octet-stream"}


class BlobUpload:
    """One blob on its way to a repository.

    Args:
        http: The registry.
        reference: Any image of the repository.
        descriptor: The blob.
        open_chunks: Gives its bytes from the start each time it is called.
        chunk_bytes: Size of the pieces to send it in; None for one piece.
    """

    def __init__(
        self,
        http: RegistryHttp,
        reference: Reference,
        descriptor: Descriptor,
        open_chunks: Callable[[], Iterable[bytes]],
        chunk_bytes: int | None,
    ) -> None:
        self._http = http
        self._reference = reference
        self._descriptor = descriptor
        self._open_chunks = open_chunks
        self._chunk_bytes = chunk_bytes
        self._what = f"push blob {descriptor.digest} to {reference.name}"
        self._url = ""  # where to go on, as the registry said last
        self._least_chunk_bytes = 0
        self._kept_bytes = 0

    def run(self, mount_from: Reference | None = None) -> bool:
        """Upload the blob: what an earlier call left to send where the registry knows, else all of it.

        Args:
            mount_from: A repository of this registry to share it from, or None.

        Returns:
            Whether bytes were sent.

        Raises:
            RegistryError: The registry cannot be reached or refuses.
            CredentialsError: The login or token cannot be had.
        """
        offset = self._find_offset() if self._url else 0
        if not offset:
            started, request = self._start(mount_from)
            started.close()
            if started.status == 201:
                return False
            self._url = self._http.location(started, request)
            wanted = started.headers.get("OCI-Chunk-Min-Length", "")
            self._least_chunk_bytes = int(wanted[:10]) if wanted.isascii() and wanted.isdigit() else 0
        if not offset and self._chunk_bytes is None:
            self._put(self._open_chunks, self._descriptor.size_bytes)
        else:
            self._patch_from(offset)
            self._put(None, 0)
        return True

    @property
    def kept_bytes(self) -> int:
        """How much the last :meth:`run` found with the registry, sent by the ones before it."""
        return self._kept_bytes

    def may_try_again(self, error: RegistryError) -> bool:
        """Whether another :meth:`run` may help; one in chunks, where the registry takes no body of this size."""
        if error.status == 413 and self._chunk_bytes is None:
            self._chunk_bytes = DEFAULT_CHUNK_BYTES
            self._url = ""
            return True
        if error.status == 400 and self._kept_bytes:
            self._url, self._kept_bytes = "", 0  # what the registry kept was not what had been sent
            return True
        return error.status in _LOST

    def _start(self, mount_from: Reference | None) -> tuple[Answer, Request]:
        path = f"/v2/{self._reference.path}/blobs/uploads/"
        scopes = scopes_for(self._reference, push=True)
        request = Request(what=self._what, method="POST", url=path, scopes=scopes, accepted=frozenset({202}))
        if mount_from is not None and mount_from.path != self._reference.path:
            query = urllib.parse.urlencode({"mount": self._descriptor.digest, "from": mount_from.path})
            mount = Request(
                what=self._what,
                method="POST",
                url=f"{path}?{query}",
                scopes=scopes | scopes_for(mount_from),
                accepted=frozenset({201, 202}),
            )
            try:
                return self._http.send(mount), mount
            except CredentialsError:
                pass  # no token for the other repository; the blob is sent then
            except RegistryError as exc:
                if exc.status not in (401, 403, 404, 405):
                    raise
        return self._http.send(request), request

    def _put(self, body: Callable[[], Iterable[bytes]] | None, size_bytes: int) -> None:
        digest = urllib.parse.quote(self._descriptor.digest, safe="")
        request = Request(
            what=self._what,
            method="PUT",
            url=f"{self._url}{'&' if urllib.parse.urlsplit(self._url).query else '?'}digest={digest}",
            scopes=scopes_for(self._reference, push=True),
            headers=_OCTETS,
            body=body if body is not None else b"",
            body_bytes=size_bytes,
            accepted=_STORED,
            repeatable=False,
        )
        self._http.send(request).close()

    def _find_offset(self) -> int:
        """Return how much of an upload that broke the registry has; 0 when it does not say, or must start anew."""
        request = Request(
            what=self._what,
            method="GET",
            url=self._url,
            scopes=scopes_for(self._reference, push=True),
            accepted=frozenset({200, 202, 204}),
            repeatable=False,
        )
        self._kept_bytes = 0
        try:
            answer = self._http.send(request)
            answer.close()
            url = self._http.location(answer, request) if answer.headers.get("Location") else self._url
        except RegistryError:
            return 0  # it forgot the upload, or never knew how to go on with one
        match = _RANGE.fullmatch(answer.headers.get("Range", ""))
        last = int(match[1]) if match is not None else 0  # "0-0" is also how docker's registry says "nothing"
        if not 0 < last < self._descriptor.size_bytes:
            return 0
        self._url, self._kept_bytes = url, last + 1
        return last + 1

    def _patch_from(self, offset: int) -> None:
        """Send the blob in chunks, all but its first bytes."""
        wanted = max(self._chunk_bytes or DEFAULT_CHUNK_BYTES, self._least_chunk_bytes, 1)
        for chunk in _resized(_without_start(self._open_chunks(), offset), min(wanted, MAX_CHUNK_BYTES)):
            last = offset + len(chunk) - 1
            request = Request(
                what=self._what,
                method="PATCH",
                url=self._url,
                scopes=scopes_for(self._reference, push=True),
                headers={**_OCTETS, "Content-Range": f"{offset}-{last}"},
                body=chunk,
                accepted=frozenset({202}),
                repeatable=False,
            )
            answer = self._http.send(request)
            answer.close()
            self._url = self._http.location(answer, request)
            match = _RANGE.fullmatch(answer.headers.get("Range", ""))
            if match is not None and int(match[1]) != last:
                raise RegistryError(
                    f"cannot {self._what}",
                    host=self._http.host,
                    status=416,
                    why=f"the registry has bytes up to {match[1]}; {last} were sent",
                )
            offset = last + 1


def _without_start(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """Yield the same bytes but for the first ones; those are read too, since their source hashes them."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:] if count else chunk
            count = 0
        else:
            count -= len(chunk)


def _resized(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of one size; the last one may be shorter."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
