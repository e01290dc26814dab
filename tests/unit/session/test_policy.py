"""The policy service: what the function is told, what its decisions become, what happens when it fails."""

from __future__ import annotations

import pytest

from buildkit_client._proto import gateway_pb2, ops_pb2, policysession_pb2, sourcepolicy_pb2
from buildkit_client.errors import PolicyError
from buildkit_client.oci.descriptor import Platform
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError
from buildkit_client.session.policy import (
    CHECK_POLICY,
    GitFacts,
    HttpFacts,
    ImageFacts,
    PolicyAllow,
    PolicyConvert,
    PolicyDeny,
    PolicyLookup,
    PolicyRequest,
    PolicyService,
)

IMAGE = "docker-image://docker.io/library/alpine:latest"
GIT = "git://github.com/org/repo.git#main"


def message(identifier: str = IMAGE, **facts) -> policysession_pb2.CheckPolicyRequest:
    return policysession_pb2.CheckPolicyRequest(
        Platform=ops_pb2.Platform(OS="linux", Architecture="arm", Variant="v7"),
        Source=gateway_pb2.ResolveSourceMetaResponse(
            Source=ops_pb2.SourceOp(identifier=identifier, attrs={"image.resolvemode": "pull"}), **facts
        ),
    )


def check(callback, request=None) -> policysession_pb2.CheckPolicyResponse:
    data = (request or message()).SerializeToString()
    return policysession_pb2.CheckPolicyResponse.FromString(PolicyService(callback).methods()[CHECK_POLICY](data, {}))


def seen(request: policysession_pb2.CheckPolicyRequest) -> PolicyRequest:
    asked: list[PolicyRequest] = []
    check(lambda one: asked.append(one) or PolicyAllow(), request)
    return asked[0]


def test_the_function_sees_the_source():
    request = seen(message())
    assert request == PolicyRequest(IMAGE, {"image.resolvemode": "pull"}, Platform("linux", "arm", "v7"))
    assert not request.has_facts
    with pytest.raises(TypeError):
        request.attrs["image.resolvemode"] = "local"


def test_a_request_without_a_platform():
    request = message()
    request.ClearField("Platform")
    assert seen(request).platform is None


def test_the_function_sees_the_facts():
    chain = gateway_pb2.AttestationChain(AttestationManifest="sha256:aa", SignatureManifests=["sha256:bb"])
    chain.Blobs["sha256:aa"].data = b"{}"
    image = gateway_pb2.ResolveSourceImageResponse(Digest="sha256:11", Config=b"{}", AttestationChain=chain)
    request = seen(message(Image=image))
    assert request.image == ImageFacts("sha256:11", b"{}", "sha256:aa", ("sha256:bb",), {"sha256:aa": b"{}"})
    assert request.has_facts
    git = gateway_pb2.ResolveSourceGitResponse(Checksum="11", Ref="refs/tags/v1", CommitChecksum="22", TagObject=b"t")
    assert seen(message(GIT, Git=git)).git == GitFacts("refs/tags/v1", "11", "22", b"", b"t")
    http = gateway_pb2.ResolveSourceHTTPResponse(Checksum="sha256:33", Filename="file")
    assert seen(message("https://host.test/file", HTTP=http)).http == HttpFacts("sha256:33", "file")


def test_allow():
    decision = check(lambda _: PolicyAllow()).decision
    assert decision == policysession_pb2.DecisionResponse(action=sourcepolicy_pb2.ALLOW)
    assert check(lambda _: PolicyAllow()).WhichOneof("result") == "decision"  # although ALLOW is 0


@pytest.mark.parametrize("messages", [(), ("one",), ["one", "two"]])
def test_deny(messages):
    decision = check(lambda _: PolicyDeny(messages)).decision
    assert decision.action == sourcepolicy_pb2.DENY
    assert [one.message for one in decision.denyMessages] == list(messages)


def test_deny_with_one_text():
    assert [one.message for one in check(lambda _: PolicyDeny("no latest")).decision.denyMessages] == ["no latest"]


def test_convert():
    decision = check(lambda _: PolicyConvert("docker-image://mirror.test/alpine:3", {"a": "b"})).decision
    assert decision.action == sourcepolicy_pb2.CONVERT
    assert decision.update == ops_pb2.SourceOp(identifier="docker-image://mirror.test/alpine:3", attrs={"a": "b"})


def test_lookup_repeats_the_source():
    """The daemon refuses a lookup for another identifier or other attributes."""
    request = check(lambda _: PolicyLookup()).request
    assert request.Source == message().Source.Source
    assert request.Platform == message().Platform
    assert request.Image.NoConfig
    assert not request.HasField("Git")


def test_lookup_asks_for_what_fits_the_source():
    lookup = PolicyLookup(
        image_config=True, image_attestations=True, attestation_types=["https://slsa.dev/provenance/v1"],
        git_objects=True, resolve_mode="pull",
    )  # fmt: skip
    request = check(lambda _: lookup).request
    assert request.ResolveMode == "pull"
    assert not request.Image.NoConfig
    assert request.Image.AttestationChain
    assert list(request.Image.ResolveAttestations) == ["https://slsa.dev/provenance/v1"]
    assert not request.HasField("Git")
    request = check(lambda _: lookup, message(GIT)).request
    assert request.Git.ReturnObject
    assert not request.HasField("Image")
    request = check(lambda _: lookup, message("https://host.test/file")).request
    assert not request.HasField("Image")
    assert not request.HasField("Git")


def broken(_request: PolicyRequest) -> PolicyAllow:
    raise KeyError("digest")


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        (broken, "KeyError: 'digest'"),
        (lambda _: None, "TypeError: a source policy has to return a decision, not NoneType"),
        (lambda _: True, "TypeError: a source policy has to return a decision, not bool"),
        (lambda _: PolicyAllow, "TypeError: a source policy has to return a decision, not type"),
        (lambda _: PolicyConvert(1), "TypeError"),
    ],
)
def test_a_function_that_fails_allows_nothing(callback, why):
    service = PolicyService(callback)
    with pytest.raises(RpcError) as caught:
        service.methods()[CHECK_POLICY](message().SerializeToString(), {})
    # Not UNIMPLEMENTED or UNAVAILABLE, which a daemon may take for "there is no policy".
    assert caught.value.code == StatusCode.UNKNOWN
    (error,) = service.errors
    assert isinstance(error, PolicyError)
    assert str(error) == f"the source policy failed for {IMAGE}" == caught.value.message
    assert error.why.startswith(why)
    assert error.__cause__ is not None


def test_what_is_no_request_is_refused_without_asking():
    with pytest.raises(RpcError) as caught:
        PolicyService(broken).methods()[CHECK_POLICY](b"\xff\xff", {})
    assert caught.value.code == StatusCode.INVALID_ARGUMENT
