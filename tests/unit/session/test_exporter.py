"""Exporters that are chosen when the result is known."""

from __future__ import annotations

import pytest

from buildkit_client._proto import exporter_pb2
from buildkit_client.errors import ExportError, OptionError
from buildkit_client.options import RawExporter
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError
from buildkit_client.session.exporter import FINALIZE_EXPORT, FIND_EXPORTERS, ExporterService

REQUEST = exporter_pb2.FindExportersRequest(metadata={"containerimage.config": b"{}"}, refs=["one"])
IMAGE = RawExporter("image", {"name": "registry.test/app", "push": "true"})


def find(service: ExporterService) -> exporter_pb2.FindExportersResponse:
    data = service.methods()[FIND_EXPORTERS](REQUEST.SerializeToString(), {})
    return exporter_pb2.FindExportersResponse.FromString(data)


def test_the_function_sees_the_result_and_its_exporters_are_run():
    seen = []
    response = find(ExporterService(lambda metadata, refs: seen.append((dict(metadata), tuple(refs))) or [IMAGE]))
    assert seen == [({"containerimage.config": b"{}"}, ("one",))]
    (request,) = response.exporters
    assert request.Type == "image"
    assert dict(request.Attrs) == IMAGE.to_attrs()


def test_no_exporters_are_an_answer():
    assert not find(ExporterService(lambda _metadata, _refs: ())).exporters


def test_chosen_exporters_are_told_before_the_daemon_knows():
    chosen = []
    find(ExporterService(lambda _metadata, _refs: [IMAGE], on_chosen=chosen.extend))
    assert chosen == [IMAGE]


def test_the_end_is_told():
    seen = []
    service = ExporterService(lambda _metadata, _refs: (), finish=lambda response: seen.append(dict(response)))
    request = exporter_pb2.FinalizeExportRequest(exporter_response={"containerimage.digest": "sha256:11"})
    assert service.methods()[FINALIZE_EXPORT](request.SerializeToString(), {}) == b""
    assert seen == [{"containerimage.digest": "sha256:11"}]
    assert ExporterService(lambda _m, _r: ()).methods()[FINALIZE_EXPORT](request.SerializeToString(), {}) == b""


def broken(*_arguments):
    raise ValueError("no")


def test_a_broken_function_fails_the_build_and_is_kept():
    service = ExporterService(broken, finish=broken)
    for path, what in ((FIND_EXPORTERS, "the choice of exporters"), (FINALIZE_EXPORT, "what follows the export")):
        with pytest.raises(RpcError) as caught:
            service.methods()[path](b"", {})
        # UNAVAILABLE and UNIMPLEMENTED would make the daemon go on as if nobody had been asked.
        assert caught.value.code == StatusCode.UNKNOWN
        assert caught.value.message == f"{what} failed"
    assert [type(error) for error in service.errors] == [ExportError, ExportError]
    assert service.errors[0].why == "ValueError: no"
    assert isinstance(service.errors[0].__cause__, ValueError)


def test_errors_of_ours_stay_what_they_are():
    def refuse(_exporters):
        raise OptionError("this cannot be received")

    service = ExporterService(lambda _metadata, _refs: [IMAGE], on_chosen=refuse)
    with pytest.raises(RpcError, match="this cannot be received"):
        find(service)
    assert [str(error) for error in service.errors] == ["this cannot be received"]


@pytest.mark.parametrize("path", [FIND_EXPORTERS, FINALIZE_EXPORT])
def test_what_is_no_request_is_refused(path):
    with pytest.raises(RpcError) as caught:
        ExporterService(broken).methods()[path](b"\xff\xff", {})
    assert caught.value.code == StatusCode.INVALID_ARGUMENT
