"""The health service that keeps a session alive: the daemon asks every five seconds and drops who stays silent.

Reference: session/manager.go, monitorHealth; grpc health checking protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client._proto import health_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_client.session.call import Metadata, UnaryHandler

CHECK = "/grpc.health.v1.Health/Check"

_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()


def health_methods() -> Mapping[str, UnaryHandler]:
    """Return the handler of ``Check``; it answers SERVING at once, whatever else goes on."""
    return {CHECK: _check}


def _check(_request: bytes, _metadata: Metadata) -> bytes:
    return _SERVING
