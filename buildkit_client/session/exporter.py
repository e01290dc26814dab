"""The ``Exporter`` service: exporters that are chosen when a build's result is known.

With ``EnableSessionExporter`` in a solve request, the daemon asks once the build is done, with the result's metadata,
and runs what it is told in addition to the request's exporters. Their ids go on after the last of those. At the end it
hands over the whole exporter response.

Reference: session/exporter/exporterprovider/provider.go; solver/llbsolver/export.go, findSessionExporters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from buildkit_client._proto import exporter_pb2
from buildkit_client.errors import BuildKitError, ExportError
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError

if TYPE_CHECKING:
    from buildkit_client.options.exporters import Exporter
    from buildkit_client.session.call import Metadata, UnaryHandler

FIND_EXPORTERS = "/moby.exporter.v1.Exporter/FindExporters"
FINALIZE_EXPORT = "/moby.exporter.v1.Exporter/FinalizeExport"

ChooseExporters = Callable[[Mapping[str, bytes], Sequence[str]], Sequence["Exporter"]]
"""Takes the result's metadata, and the ids of its references; returns the exporters to run, maybe none."""

FinishExport = Callable[[Mapping[str, str]], None]
"""Takes the exporter response, with what all exporters said."""


class ExporterService:
    """Asks functions of the caller which exporters to run.

    Args:
        choose: Called once for a build, in a thread of the session.
        finish: Called at the end of the export, in a thread of the session; None when nobody wants to know. Daemons up
            to 0.26 never call it.
        on_chosen: Called with the chosen exporters before the daemon hears of them, so that those whose result comes
            back to us can be received. Its errors are errors of ours too.
    """

    def __init__(
        self,
        choose: ChooseExporters,
        *,
        finish: FinishExport | None = None,
        on_chosen: Callable[[Sequence[Exporter]], None] | None = None,
    ) -> None:
        self._choose = choose
        self._finish = finish
        self._on_chosen = on_chosen
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Errors of the functions, in order."""
        return tuple(self._errors)

    def methods(self) -> Mapping[str, UnaryHandler]:
        """Return the handlers of both methods."""
        return {FIND_EXPORTERS: self._find, FINALIZE_EXPORT: self._finalize}

    def _find(self, data: bytes, _metadata: Metadata) -> bytes:
        try:
            request = exporter_pb2.FindExportersRequest.FromString(data)
        except DecodeError as exc:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a FindExportersRequest") from exc
        try:
            chosen = list(self._choose(MappingProxyType(dict(request.metadata)), tuple(request.refs)))
            requests = [exporter_pb2.ExporterRequest(Type=one.type, Attrs=one.to_attrs()) for one in chosen]
            if self._on_chosen is not None:
                self._on_chosen(chosen)
        except Exception as exc:
            raise self._failed("the choice of exporters failed", exc) from exc
        return exporter_pb2.FindExportersResponse(exporters=requests).SerializeToString()

    def _finalize(self, data: bytes, _metadata: Metadata) -> bytes:
        try:
            request = exporter_pb2.FinalizeExportRequest.FromString(data)
        except DecodeError as exc:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a FinalizeExportRequest") from exc
        try:
            if self._finish is not None:
                self._finish(MappingProxyType(dict(request.exporter_response)))
        except Exception as exc:
            raise self._failed("what follows the export failed", exc) from exc
        return exporter_pb2.FinalizeExportResponse().SerializeToString()

    def _failed(self, what: str, exc: Exception) -> RpcError:
        """Keep an error, and return what the daemon is told; a code that it does not take for "no such feature"."""
        error = exc if isinstance(exc, BuildKitError) else ExportError(what, why=f"{type(exc).__name__}: {exc}")
        if error is not exc:
            error.__cause__ = exc
        self._errors.append(error)
        return RpcError(StatusCode.UNKNOWN, str(error))
