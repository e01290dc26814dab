"""The ``Upload`` service: the daemon reads streams of ours, such as a Dockerfile or a tar that came on stdin.

A build names a stream as ``http://buildkit-session/<id>``; the daemon then asks us in place of a web server. Each
stream can be read once, so a second request for it is refused: its bytes are gone.

Reference: session/upload/uploadprovider/provider.go; session/upload/upload.go.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, BinaryIO

from buildkit_client._proto import upload_pb2
from buildkit_client.errors import BuildKitError, ContextError, OptionError
from buildkit_client.protocol.grpc_framing import encode_message
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buildkit_client.session.call import ServerCall, StreamHandler

PULL = "/moby.upload.v1.Upload/Pull"
KEY_URL_PATH = "urlpath"  # session/upload/upload.go
URL_PREFIX = "http://buildkit-session/"

_CHUNK_BYTES = 256 << 10


class UploadService:
    """Gives out streams by id, each once.

    Args:
        uploads: Stream by id; opened for bytes, from where it stands to its end. The caller closes it.

    Raises:
        OptionError: An id could not stand in a URL.
    """

    def __init__(self, uploads: Mapping[str, BinaryIO]) -> None:
        for upload_id in uploads:
            if not upload_id or upload_id.strip("/") != upload_id or any(char in upload_id for char in "/?#% "):
                raise OptionError(
                    f"an upload cannot have the id {upload_id!r}", hint="use letters, digits, dots and dashes"
                )
        self.uploads = dict(uploads)
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Streams that could not be read, in order."""
        return tuple(self._errors)

    def methods(self) -> Mapping[str, StreamHandler]:
        """Return the handler of ``Pull``."""
        return {PULL: self._pull}

    def _pull(self, call: ServerCall) -> None:
        upload_id = next(iter(call.metadata.get(KEY_URL_PATH, ())), "").rpartition("/")[2]
        try:
            for chunk in _chunks(upload_id, self._take(upload_id)):
                call.write(encode_message(upload_pb2.BytesMessage(data=chunk).SerializeToString()))
        except BuildKitError as exc:
            self._errors.append(exc)
            raise RpcError(StatusCode.UNKNOWN, str(exc)) from exc

    def _take(self, upload_id: str) -> BinaryIO:
        stream = self.uploads.get(upload_id)
        if stream is None:
            raise RpcError(StatusCode.NOT_FOUND, f"no http response from session for {upload_id}")
        with self._lock:
            is_first = upload_id not in self._taken
            self._taken.add(upload_id)
        if not is_first:
            raise ContextError(
                f"the upload {upload_id} was read already",
                why="a stream can be read once",
                hint="start the build again with the stream from its beginning",
            )
        return stream


def _chunks(upload_id: str, stream: BinaryIO) -> Iterator[bytes]:
    what = f"cannot read the upload {upload_id}"
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            if not isinstance(chunk, bytes):
                raise ContextError(what, why="its stream gives text", hint="open it for bytes")
            yield chunk
    except ContextError:
        raise
    except Exception as exc:  # the stream is the caller's: a decompressor's or an HTTP library's, for example
        raise ContextError(what, why=getattr(exc, "strerror", None) or str(exc) or type(exc).__name__) from exc
    if chunk is None:
        raise ContextError(what, why="its stream does not wait for data", hint="open it in blocking mode")
