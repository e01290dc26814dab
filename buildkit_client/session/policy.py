"""The ``PolicyVerifier`` service: a function of the caller decides, source by source, what a build may load.

The daemon asks before it loads a source: an image, a git repository, a file on the web, a local directory. The function
allows, denies, names another source in its place, or first asks for facts that the daemon has to look up, such as an
image's digest. A failing function fails the build: nothing is allowed by accident.

Reference: sourcepolicy/policysession/provider.go; solver/llbsolver/policy.go, policyEvaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from google.protobuf.message import DecodeError

from buildkit_client._proto import gateway_pb2, ops_pb2, policysession_pb2, sourcepolicy_pb2
from buildkit_client.errors import BuildKitError, PolicyError
from buildkit_client.oci.descriptor import Platform
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError

if TYPE_CHECKING:
    from buildkit_client.session.call import Metadata, UnaryHandler

CHECK_POLICY = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the daemon found out about an image.

    Attributes:
        digest: Of the manifest or index that the name stands for.
        config: JSON of the image config for the platform; may be empty.
        attestation_manifest: Digest of the manifest with the image's attestations, when they were asked for; or empty.
        signature_manifests: Digests of the manifests with its signatures.
        blobs: Content of manifests and attestations by digest.
    """

    digest: str
    config: bytes = field(default=b"", repr=False)
    attestation_manifest: str = ""
    signature_manifests: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class GitFacts:
    """What the daemon found out about a git reference.

    Attributes:
        ref: Full name, for example ``refs/heads/main``.
        checksum: Id of the object that the reference names, which may be a tag.
        commit_checksum: Id of the commit, when that is another one; or empty.
        commit_object: Raw content, when it was asked for.
        tag_object: Raw content, when it was asked for and there is a tag object.
    """

    ref: str
    checksum: str
    commit_checksum: str = ""
    commit_object: bytes = field(default=b"", repr=False)
    tag_object: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpFacts:
    """What the daemon found out about a file on the web.

    Attributes:
        checksum: Digest of its content.
        filename: Its name, without folders.
    """

    checksum: str
    filename: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """A source that a build wants to load.

    Attributes:
        identifier: Scheme and name, for example ``docker-image://docker.io/library/alpine:latest``,
            ``git://github.com/org/repo.git#main``, ``https://host/file`` or ``local://context``.
        attrs: Attributes of the source.
        platform: What the source is wanted for, or None when it is the same for all.
        image: Facts about an image, once they were asked for.
        git: Facts about a git reference, once they were asked for.
        http: Facts about a file on the web, once they were asked for.
    """

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    image: ImageFacts | None = None
    git: GitFacts | None = None
    http: HttpFacts | None = None

    @property
    def has_facts(self) -> bool:
        """Whether the daemon has answered a :class:`PolicyLookup` for this source."""
        return self.image is not None or self.git is not None or self.http is not None


@dataclass(frozen=True, slots=True)
class PolicyAllow:
    """The source may be loaded."""


@dataclass(frozen=True, slots=True)
class PolicyDeny:
    """The source must not be loaded; the build fails.

    Attributes:
        messages: Why, for whoever reads the build's error; may be empty.
    """

    messages: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PolicyConvert:
    """Another source is loaded in its place; the daemon asks about that one too.

    Attributes:
        identifier: As :attr:`PolicyRequest.identifier`.
        attrs: Its attributes, all of them.
    """

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLookup:
    """The daemon looks up facts about the source, and asks again. It does so at most ten times for one source.

    Attributes:
        image_config: Fetch the config of an image; otherwise its digest alone.
        image_attestations: Find an image's attestations and signatures.
        attestation_types: Predicate types of the attestations whose content is wanted; may be empty.
        git_objects: Fetch the commit and tag objects of a git reference.
        resolve_mode: Where to look for an image; empty for what the build uses.
    """

    image_config: bool = False
    image_attestations: bool = False
    attestation_types: Sequence[str] = ()
    git_objects: bool = False
    resolve_mode: Literal["", "default", "pull", "local"] = ""


PolicyDecision = PolicyAllow | PolicyDeny | PolicyConvert | PolicyLookup

PolicyCallback = Callable[[PolicyRequest], PolicyDecision]
"""Decides about one source; called in threads of the session, for several sources at once."""


class PolicyService:
    """Asks a function about every source of a build.

    Args:
        callback: Decides.
    """

    def __init__(self, callback: PolicyCallback) -> None:
        self._callback = callback
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Why the function could not decide, in order; denials are decisions and not among them."""
        return tuple(self._errors)

    def methods(self) -> Mapping[str, UnaryHandler]:
        """Return the handler of ``CheckPolicy``."""
        return {CHECK_POLICY: self._check}

    def _check(self, data: bytes, _metadata: Metadata) -> bytes:
        try:
            message = policysession_pb2.CheckPolicyRequest.FromString(data)
        except DecodeError as exc:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a CheckPolicyRequest") from exc
        request = _request(message)
        try:
            decision = self._callback(request)
            response = _response(decision, message)
        except Exception as exc:
            error = PolicyError(
                f"the source policy failed for {request.identifier}", why=f"{type(exc).__name__}: {exc}"
            )
            error.__cause__ = exc
            self._errors.append(error)
            raise RpcError(StatusCode.UNKNOWN, str(error)) from exc
        return response.SerializeToString()


def _request(message: policysession_pb2.CheckPolicyRequest) -> PolicyRequest:
    source = message.Source
    image, git, http = source.Image, source.Git, source.HTTP
    platform = message.Platform
    return PolicyRequest(
        identifier=source.Source.identifier,
        attrs=MappingProxyType(dict(source.Source.attrs)),
        platform=Platform(
            platform.OS, platform.Architecture, platform.Variant, platform.OSVersion, tuple(platform.OSFeatures)
        )
        if message.HasField("Platform")
        else None,
        image=ImageFacts(
            image.Digest,
            image.Config,
            image.AttestationChain.AttestationManifest,
            tuple(image.AttestationChain.SignatureManifests),
            MappingProxyType({digest: blob.data for digest, blob in image.AttestationChain.Blobs.items()}),
        )
        if source.HasField("Image")
        else None,
        git=GitFacts(git.Ref, git.Checksum, git.CommitChecksum, git.CommitObject, git.TagObject)
        if source.HasField("Git")
        else None,
        http=HttpFacts(http.Checksum, http.Filename) if source.HasField("HTTP") else None,
    )


def _response(
    decision: PolicyDecision, message: policysession_pb2.CheckPolicyRequest
) -> policysession_pb2.CheckPolicyResponse:
    """Return a decision as a message.

    Raises:
        TypeError: It is no decision.
    """
    answer = policysession_pb2.DecisionResponse
    match decision:
        case PolicyAllow():
            found = answer(action=sourcepolicy_pb2.ALLOW)
        case PolicyDeny(messages):
            if isinstance(messages, str):
                messages = (messages,)
            texts = [policysession_pb2.DenyMessage(message=text) for text in messages]
            found = answer(action=sourcepolicy_pb2.DENY, denyMessages=texts)
        case PolicyConvert(identifier, attrs):
            update = ops_pb2.SourceOp(identifier=identifier, attrs=dict(attrs))
            found = answer(action=sourcepolicy_pb2.CONVERT, update=update)
        case PolicyLookup():
            return policysession_pb2.CheckPolicyResponse(request=_lookup(decision, message))
        case _:
            raise TypeError(f"a source policy has to return a decision, not {type(decision).__name__}")
    return policysession_pb2.CheckPolicyResponse(decision=found)


def _lookup(
    lookup: PolicyLookup, message: policysession_pb2.CheckPolicyRequest
) -> gateway_pb2.ResolveSourceMetaRequest:
    source = message.Source.Source
    request = gateway_pb2.ResolveSourceMetaRequest(
        Source=source,  # the daemon refuses a request for another source than the one it asked about
        Platform=message.Platform if message.HasField("Platform") else None,
        ResolveMode=lookup.resolve_mode,
    )
    if source.identifier.startswith("docker-image://"):
        request.Image.NoConfig = not lookup.image_config
        request.Image.AttestationChain = lookup.image_attestations
        request.Image.ResolveAttestations.extend(lookup.attestation_types)
    elif source.identifier.startswith("git://"):
        request.Git.ReturnObject = lookup.git_objects
    return request
