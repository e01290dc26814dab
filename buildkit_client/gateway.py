"""Gateway builds: a function of the caller runs as the build's frontend.

The function gets a :class:`Gateway`, with which it solves graphs and other frontends, looks at their results and reads
files of them; what it returns is what gets exported. Nothing that a frontend on the daemon can do is out of its reach,
several solves in one build among it.

Reference: client/build.go; frontend/gateway/grpcclient; frontend/gateway/client.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from buildkit_client._proto import gateway_pb2, ops_pb2
from buildkit_client.errors import BuildCancelledError, BuildKitError, LocalProtocolError, OptionError, SolveError
from buildkit_client.options.known import checked_texts
from buildkit_client.protocol.fsutil_stat import Stat, unix_permissions
from buildkit_client.protocol.grpc_framing import MAX_MESSAGE_BYTES
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.solve_options import Graph
from buildkit_client.transport.lenient import parse_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

    from buildkit_client.options import Cache, Frontend
    from buildkit_client.transport.channel import Channel, PendingCall

    M = TypeVar("M", bound=Message)

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
_BUILD_ID_KEY = "buildkit-controlapi-buildid"
_SHOWN_LETTERS = 10_000  # of an error that the daemon keeps in its history
_SUBREQUESTS = "moby.buildkit.frontend.subrequests"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or directory of a result.

    Attributes:
        path: Its name, with slashes.
        mode: Permission bits, with set-user-id, set-group-id and sticky, as ``os.stat`` has them.
        uid: Owner.
        gid: Group.
        size: Bytes.
        modified_ns: Nanoseconds since 1970.
        link: Target of a symbolic link, else empty.
        is_dir: Whether it is a directory.
    """

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    modified_ns: int
    link: str
    is_dir: bool


class Reference:
    """A filesystem that the build made, on the daemon; made by :meth:`Gateway.solve`."""

    def __init__(self, gateway: Gateway, message: gateway_pb2.Ref) -> None:
        self._gateway = gateway
        self.message = message

    def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return a file's content, 16 MiB at most in one call.

        Args:
            path: The file.
            offset: Where to begin.
            length: How much; None reads to the end.

        Raises:
            OptionError: The path is not UTF-8, as for the following.
            SolveError: The daemon cannot read it.
        """
        request = gateway_pb2.ReadFileRequest(Ref=self.message.id, FilePath=_checked_path(path))
        if offset or length is not None:
            request.Range.Offset = offset
            request.Range.Length = length if length is not None else (1 << 62)
        return self._gateway.call("ReadFile", request, gateway_pb2.ReadFileResponse).Data

    def read_dir(self, path: str = "/", *, include: str = "") -> list[FileInfo]:
        """Return what a directory holds.

        Args:
            path: The directory.
            include: Pattern that names have to match.
        """
        request = gateway_pb2.ReadDirRequest(
            Ref=self.message.id, DirPath=_checked_path(path), IncludePattern=_checked_path(include)
        )
        response = self._gateway.call("ReadDir", request, gateway_pb2.ReadDirResponse)
        return [_file_info(Stat.from_proto(entry)) for entry in response.entries]

    def stat(self, path: str) -> FileInfo:
        """Return what a path is."""
        request = gateway_pb2.StatFileRequest(Ref=self.message.id, Path=_checked_path(path))
        return _file_info(Stat.from_proto(self._gateway.call("StatFile", request, gateway_pb2.StatFileResponse).stat))

    def evaluate(self) -> None:
        """Wait until it is really built: results are lazy otherwise.

        Raises:
            SolveError: A step failed.
        """
        self._gateway.call("Evaluate", gateway_pb2.EvaluateRequest(Ref=self.message.id), gateway_pb2.EvaluateResponse)


@dataclass(frozen=True, slots=True)
class GatewayResult:
    """What a solve made, and what a gateway build returns.

    Attributes:
        ref: The filesystem, when there is one; None for an empty result.
        refs: One by key, usually the platform, when there are several.
        metadata: For example ``containerimage.config``.
        attestations: By key of ``refs``, as the wire has them.
    """

    ref: Reference | None = None
    refs: Mapping[str, Reference] = field(default_factory=dict)
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    attestations: Mapping[str, gateway_pb2.Attestations] = field(default_factory=dict)

    @classmethod
    def from_proto(cls, gateway: Gateway, message: gateway_pb2.Result) -> GatewayResult:
        """Read what the daemon answers."""
        single = message.ref if message.WhichOneof("result") == "ref" and message.ref.id else None
        return cls(
            ref=Reference(gateway, single) if single is not None else None,
            refs={key: Reference(gateway, ref) for key, ref in message.refs.refs.items() if ref.id},
            metadata=dict(message.metadata),
            attestations=dict(message.attestations),
        )

    def to_proto(self) -> gateway_pb2.Result:
        """Return the message that ends a build."""
        message = gateway_pb2.Result(metadata=self.metadata, attestations=self.attestations)
        if self.refs:
            message.refs.SetInParent()
            for key, ref in self.refs.items():
                message.refs.refs[key].CopyFrom(ref.message)
        else:
            message.ref.SetInParent()
            if self.ref is not None:
                message.ref.CopyFrom(self.ref.message)
        return message


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image that the daemon looked up.

    Attributes:
        ref: The reference after source policies changed it.
        digest: ``sha256:...`` of its manifest or index.
        config: Its config, as JSON gives it.
    """

    ref: str
    digest: str
    config: Mapping[str, object]


class Gateway:
    """What a build's function works with; calls block, and may come from several threads.

    Args:
        channel: The connection.
        ref: The build's id.
        session_id: Serves the build.
    """

    def __init__(self, channel: Channel, ref: str, session_id: str) -> None:
        self.ref = ref
        self.session_id = session_id
        self._channel = channel
        self._lock = threading.Lock()
        self._calls: set[PendingCall[Any]] = set()
        self._is_over = False

    def close(self) -> None:
        """End every call: the build is over. The daemon would go on with them otherwise."""
        with self._lock:
            self._is_over = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def call(self, method: str, request: Message, response: type[M]) -> M:
        """Make a call of the build's bridge.

        Raises:
            SolveError: A step of the build failed, or the daemon refuses.
            BuildCancelledError: The build is over.
            BuildKitError: Another error.
        """
        try:
            with self._channel.translated():
                call = self._channel.unary_future(
                    BRIDGE + method,
                    request,
                    lambda data: parse_message(response, data),
                    metadata=((_BUILD_ID_KEY, self.ref),),
                )
                with self._lock:
                    self._calls.add(call)
                    if self._is_over:
                        call.cancel()
                try:
                    return call.result()
                finally:
                    with self._lock:
                        self._calls.discard(call)
        except BuildCancelledError as exc:
            if self._is_over:
                raise _over() from exc
            raise

    def capabilities(self) -> frozenset[str]:
        """Return what the daemon's bridge can do, for example ``gateway.solve.metadata``."""
        response = self.call("Ping", gateway_pb2.PingRequest(), gateway_pb2.PongResponse)
        return frozenset(cap.ID for cap in response.FrontendAPICaps if cap.Enabled)

    def solve(
        self,
        build: Frontend | Graph,
        *,
        cache_imports: Sequence[Cache] = (),
        inputs: Mapping[str, Graph] | None = None,
        evaluate: bool = False,
    ) -> GatewayResult:
        """Run a frontend, or build a graph.

        Args:
            build: The frontend or the graph.
            cache_imports: Caches to use.
            inputs: Graph by name, for ``input:NAME`` contexts.
            evaluate: Wait until the result is really built, rather than when something needs it.

        Raises:
            SolveError: A step failed.
        """
        imports = [(cache.type, cache.to_import_attrs()) for cache in cache_imports]
        request = gateway_pb2.SolveRequest(
            allowResultReturn=True,
            allowResultArrayRef=True,
            Evaluate=evaluate,
            CacheImports=[gateway_pb2.CacheOptionsEntry(Type=kind, Attrs=attrs) for kind, attrs in imports],
        )
        for name, definition in (inputs or {}).items():
            request.FrontendInputs[name].CopyFrom(definition.to_proto())
        if isinstance(build, Graph):
            request.Definition.CopyFrom(build.to_proto())
        else:
            request.Frontend = build.name
            attrs = build.to_attrs()
            if imports:
                attrs["cache-imports"] = json.dumps([{"Type": kind, "Attrs": values} for kind, values in imports])
            if "requestid" in attrs:
                caps = [cap for cap in attrs.get("frontend.caps", "").split(",") if cap]
                attrs["frontend.caps"] = ",".join(caps if _SUBREQUESTS in caps else [*caps, _SUBREQUESTS])
            request.FrontendOpt.update(checked_texts(f"frontend {build.name}", attrs))
        response = self.call("Solve", request, gateway_pb2.SolveResponse)
        return GatewayResult.from_proto(self, response.result)

    def resolve_image(self, name: str, *, platform: str = "", mode: str = "default") -> ResolvedImage:
        """Look up an image.

        Args:
            name: With host, for example ``docker.io/library/alpine:3.20``.
            platform: For example ``linux/arm64``; empty takes the worker's.
            mode: ``pull`` asks the registry each time; ``local`` never does.
        """
        request = gateway_pb2.ResolveImageConfigRequest(
            Ref=name, ResolveMode=mode, LogName=f"[internal] load metadata for {name}"
        )
        if platform:
            parts = platform.split("/")
            request.Platform.CopyFrom(
                ops_pb2.Platform(OS=parts[0], Architecture="".join(parts[1:2]), Variant="".join(parts[2:3]))
            )
        response = self.call("ResolveImageConfig", request, gateway_pb2.ResolveImageConfigResponse)
        return ResolvedImage(response.Ref or name, response.Digest, json.loads(response.Config or b"{}"))


BuildFunction = Callable[[Gateway], GatewayResult | None]
"""Builds something with a :class:`Gateway`; what it returns is exported, None exports nothing."""


class GatewayRun:
    """Runs a build's function in a thread of its own, and ends the build with what it returns.

    Args:
        gateway: For the function.
        function: The function.

    Attributes:
        error: What the function raised.
    """

    def __init__(self, gateway: Gateway, function: BuildFunction) -> None:
        self.error: BaseException | None = None
        self._gateway = gateway
        self._function = function
        threading.Thread(target=self._run, name="build-gateway", daemon=True).start()

    def _run(self) -> None:
        request = gateway_pb2.ReturnRequest()
        try:
            result = self._function(self._gateway)
            if not isinstance(result, GatewayResult | None):
                raise LocalProtocolError(
                    f"a build's function returned a {type(result).__name__}", hint="return a GatewayResult or None"
                )
            request.result.CopyFrom((result or GatewayResult()).to_proto())
            if request.ByteSize() > MAX_MESSAGE_BYTES:
                raise LocalProtocolError(
                    "the result of a build's function is too large",
                    why=f"the daemon takes {MAX_MESSAGE_BYTES >> 20} MiB, its metadata included",
                )
        except BaseException as exc:
            # Whatever happened, Return has to be called: the build ends in no other way.
            self.error = exc
            request = gateway_pb2.ReturnRequest()
            request.error.code = int(exc.details.code if isinstance(exc, SolveError) else StatusCode.UNKNOWN)
            request.error.message = str(exc)[:_SHOWN_LETTERS].encode("utf-8", "replace").decode()
        try:
            self._gateway.call("Return", request, gateway_pb2.ReturnResponse)
        except BuildKitError as exc:
            # The build may have ended by itself, and its own answer says why; else nobody would learn of this.
            self.error = self.error or (exc if isinstance(exc, LocalProtocolError) else None)


def _over() -> BuildCancelledError:
    return BuildCancelledError(
        "the build is over", why="a Gateway and its references last as long as the function's build"
    )


def _checked_path(path: str) -> str:
    """Refuse a name that the call cannot carry; listing a directory can give such a name all the same."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"cannot ask the daemon for the path {path!a}",
            why="it is not UTF-8, and the gateway's calls carry no other names",
            hint="export the result to get at that file",
        ) from None
    return path


def _file_info(stat: Stat) -> FileInfo:
    return FileInfo(
        path=stat.path.decode("utf-8", "surrogateescape"),
        mode=unix_permissions(stat.mode),
        uid=stat.uid,
        gid=stat.gid,
        size=stat.size,
        modified_ns=stat.mod_time_ns,
        link=stat.linkname.decode("utf-8", "surrogateescape"),
        is_dir=stat.is_dir,
    )
