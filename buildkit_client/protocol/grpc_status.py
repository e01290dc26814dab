"""gRPC's status codes and the names Go prints for them."""

from __future__ import annotations

from enum import IntEnum


class StatusCode(IntEnum):
    """A gRPC status code as it stands in ``grpc-status``.

    Reference: gRPC over HTTP2, "Status".
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def go_name(self) -> str:
        """The name as Go tools print it, for example ``DeadlineExceeded``.

        Reference: google.golang.org/grpc/codes, Code.String.
        """
        if self is StatusCode.OK:
            return "OK"
        if self is StatusCode.CANCELLED:
            return "Canceled"
        return self.name.title().replace("_", "")
