"""What one session serves for a build: directories, credentials, outputs, stores.

Keeps the errors that happened on our side, so that a build that failed because of us says so in our words.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from buildkit_client.errors import BuildKitError, OptionError
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.options import OutputDirectory, OutputFile, OutputLayout, OutputStream
from buildkit_client.session.auth import AuthService
from buildkit_client.session.content import ContentService, ContentStore
from buildkit_client.session.filesend import FileReceiver, FileSendService, Receiver, StreamReceiver
from buildkit_client.session.filesend_local import DirectoryReceiver
from buildkit_client.session.filesync import FileSyncService
from buildkit_client.session.secrets import SecretsService
from buildkit_client.session.ssh import SshService

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from buildkit_client.oci.credentials import CredentialsProvider
    from buildkit_client.options import Exporter, Secret, SshAgent
    from buildkit_client.session.call import StreamHandler, UnaryHandler

EXPORT_STORE = "export"  # session/content; the store id that ``tar=false`` exporters write to


class Attachments:
    """The services of one session.

    Args:
        local_dirs: Directory by the name the daemon asks for.
        credentials: Finds registry credentials.
        exporters: The build's exporters; those with an output get a receiver.
        layout: OCI image layout that ``tar=false`` exporters write to, for sessions shared by several builds.
        secrets: Secret by id.
        ssh: SSH agent by id.

    Raises:
        ContextError: A directory cannot be read.
        SecretError: A secret's file cannot be read.
        SshAgentError: An agent does not answer.
        OptionError: An output cannot be written.
    """

    def __init__(
        self,
        *,
        local_dirs: Mapping[str, Path],
        credentials: CredentialsProvider,
        exporters: Sequence[Exporter] = (),
        layout: ImageLayout | None = None,
        secrets: Mapping[str, Secret] | None = None,
        ssh: Mapping[str, SshAgent] | None = None,
    ) -> None:
        self.unary: dict[str, UnaryHandler] = {}
        self.streaming: dict[str, StreamHandler] = {}
        self.layout = layout
        self._login_lines: deque[str] = deque()
        self._auth = AuthService(credentials, on_event=self._login_lines.append)
        self._files = FileSyncService(local_dirs)
        self._secrets = SecretsService(secrets or {})
        self._ssh = SshService(ssh or {})
        self._receivers: dict[int, Receiver] = {}
        self.unary.update(self._auth.methods())
        if local_dirs:
            self._files.check()
            self.streaming.update(self._files.methods())
        if secrets:
            self._secrets.check()
            self.unary.update(self._secrets.methods())
        if ssh:
            self._ssh.check()
            self.unary.update(self._ssh.unary_methods())
            self.streaming.update(self._ssh.streaming_methods())
        for index, exporter in enumerate(exporters):
            self._add_output(index, exporter)
        if self._receivers:
            self.streaming.update(FileSendService(self._receivers).methods())
        if self.layout is not None:
            self.streaming.update(ContentService({EXPORT_STORE: ContentStore(self.layout, writable=True)}).methods())

    def _add_output(self, index: int, exporter: Exporter) -> None:
        match exporter.output:
            case OutputFile(path):
                receiver = FileReceiver(path)
                receiver.check()
                self._receivers[index] = receiver
            case OutputStream(stream):
                self._receivers[index] = StreamReceiver(stream)
            case OutputDirectory(path):
                directory = DirectoryReceiver(path, mode=exporter.to_attrs().get("mode", "copy"))
                directory.check()
                self._receivers[index] = directory
            case OutputLayout(path):
                if self.layout is not None:
                    raise OptionError(
                        "a build can write into one OCI image layout only",
                        why="the daemon has one store of that kind for a session",
                        hint="write the others as tar files, or copy them afterwards",
                    )
                self.layout = ImageLayout(path, create=True)

    @property
    def vanished_files(self) -> tuple[str, ...]:
        """Files that were gone when the daemon wanted them, so that it got them empty: the first of each transfer."""
        return tuple(name for transfer in self._files.transfers for name in transfer.missing_names)

    def take_login_lines(self) -> list[str]:
        """Return what happened about registry logins since the last call, a line each, as progress shows it."""
        lines = []
        with suppress(IndexError):
            while True:
                lines.append(self._login_lines.popleft())
        return lines

    def error(self, message: str) -> BuildKitError | None:
        """Return the error of ours that a daemon's message repeats, or None.

        Other errors of ours did no harm, for example a login for a cache that the build went on without.

        Args:
            message: The daemon's whole error text.
        """
        for service in (self._files, self._secrets, self._ssh, *self._receivers.values(), self._auth):
            errors = getattr(service, "errors", None) or [getattr(service, "error", None)]
            for error in errors:
                if isinstance(error, BuildKitError) and str(error) in message:
                    return error
        return None

    def finish(self, exporters: Sequence[Exporter], response: Mapping[str, str]) -> None:
        """Record a finished image in the layout's index, as the exporter leaves that to the client.

        Reference: client/solve.go, the handling of ``containerimage.descriptor``.
        """
        if self.layout is None or not any(isinstance(one.output, OutputLayout) for one in exporters):
            return
        text = response.get("containerimage.descriptor", "")
        if text:
            descriptor = Descriptor.from_json(json.loads(b64decode(text)))
            names = [name for name in response.get("image.name", "").split(",") if name]
            self.layout.add_image(descriptor, names)
