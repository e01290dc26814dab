"""One RPC that the daemon makes to us, as a handler sees it.

A handler runs in a thread of its own and reads and writes blocking. Returning ends the call with OK; raising
:class:`RpcError` ends it with another status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from buildkit_client.protocol.grpc_status import StatusCode

Buffers = bytes | Sequence[bytes | memoryview]
"""What a call sends at once: bytes, or parts of them in order."""

Metadata = Mapping[str, tuple[str, ...]]
"""Request metadata: lower-case keys; values in wire order, bytes beyond UTF-8 kept by ``surrogateescape``."""


class RpcError(Exception):
    """Ends a call with a status other than OK.

    Attributes:
        code: The gRPC status code.
        message: Text for the daemon, which shows it in the build's error.
    """

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CallCancelledError(Exception):
    """The daemon reset the call, or the session ended; the handler should stop."""


class ServerCall(Protocol):
    """A call in progress.

    Attributes:
        method: Full path, for example ``/moby.filesync.v1.FileSync/DiffCopy``, in the spelling we registered.
        metadata: See :data:`Metadata`.
    """

    method: str
    metadata: Metadata

    def receive(self) -> bytes | None:
        """Return the next request message, or None after the daemon's half-close.

        Raises:
            CallCancelledError: The call is over.
        """

    def receive_ready(self) -> Sequence[bytes]:
        """Return the request messages that are already here, in order; may be none.

        Raises:
            CallCancelledError: The call is over.
        """

    def write(self, framed: Buffers) -> None:
        """Send one or many messages, each already with its five-byte prefix.

        Blocks while more than about a mebibyte of this call waits to be sent.

        Args:
            framed: Bytes, or parts that are sent one after the other; they must not change afterwards.

        Raises:
            CallCancelledError: The call is over.
        """


UnaryHandler = Callable[[bytes, Metadata], bytes]
"""Takes the request message and metadata, returns the response message; may raise :class:`RpcError`."""

StreamHandler = Callable[[ServerCall], None]
"""Serves one call from start to end; may raise :class:`RpcError`."""
