"""What one session serves for a build: directories, credentials, outputs, stores.

Keeps the errors that happened on our side, so that a build that failed because of us says so in our words.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from buildkit_client.errors import BuildKitError, ExportError, OptionError
from buildkit_client.oci.credentials import CredentialsProvider, DockerConfig, default_docker_config_path
from buildkit_client.options.local_directory import LocalDirectory
from buildkit_client.options.needs import Needs
from buildkit_client.session.auth import AuthService, wants_client_tokens
from buildkit_client.session.content import EXPORT_STORE_ID, OCI_STORE_PREFIX, ContentService, ContentStore
from buildkit_client.session.filesync import FileSyncService

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client.oci.layout import ImageLayout
    from buildkit_client.options import Exporter
    from buildkit_client.session.call import StreamHandler, UnaryHandler
    from buildkit_client.session.filesend import Receiver
    from buildkit_client.session.ssh import SshService
    from buildkit_client.solve_options import SessionOptions


class Attachments:
    """The services of one session.

    Args:
        options: What the caller wants served.
        needs: What the contexts of the build's frontend need besides.
        exporters: The build's exporters; those with an output get a receiver.
        layout: OCI image layout that ``tar=false`` exporters write to, for sessions shared by several builds.

    Attributes:
        local_dirs: Directory by the name the daemon asks for.
        layouts: OCI image layout by the name the daemon asks for.
        uploads: Ids of the streams that the daemon may read.
        has_policy: Whether the session decides about sources.
        chooses_exporters: Whether the session chooses further exporters.

    Raises:
        ContextError: A directory cannot be read.
        SecretError: A secret's file cannot be read.
        SshAgentError: An agent does not answer.
        OptionError: An output cannot be written.
    """

    def __init__(
        self,
        options: SessionOptions,
        *,
        needs: Needs | None = None,
        exporters: Sequence[Exporter] = (),
        layout: ImageLayout | None = None,
    ) -> None:
        needs = needs or Needs()
        self.unary: dict[str, UnaryHandler] = {}
        self.streaming: dict[str, StreamHandler] = {}
        self.layout = layout
        self.local_dirs = local_directories({**needs.local_dirs, **options.get("local_dirs", {})})
        self.layouts = {name: Path(path) for name, path in {**needs.layouts, **options.get("layouts", {})}.items()}
        self.has_policy = options.get("policy") is not None
        self.chooses_exporters = options.get("choose_exporters") is not None
        self.uploads: tuple[str, ...] = ()
        self._services: list[object] = []
        self._receivers: dict[int, Receiver] = {}
        self._places: set[object] = set()
        self._layout_path: Path | None = None
        self._ssh: SshService | None = None
        self._login_lines: deque[str] = deque()
        self._files = FileSyncService(self.local_dirs)
        if self.local_dirs:
            self._files.check()
            self.streaming.update(self._files.methods())
        self._services.append(self._files)
        self._add_optional(options, {**needs.uploads, **options.get("uploads", {})}, exporters)
        auth = AuthService(
            options.get("credentials") or _docker_credentials(),
            use_client_tokens=wants_client_tokens(os.environ),
            http=options.get("registry_http"),
            on_event=self._login_lines.append,
        )
        self.unary.update(auth.methods())
        self._services.append(auth)
        self._stores: dict[str, ContentStore] = {}
        if self.layouts:
            from buildkit_client.oci.layout import ImageLayout  # noqa: PLC0415 - few builds read one

            self._stores |= {
                OCI_STORE_PREFIX + name: ContentStore(ImageLayout(path)) for name, path in self.layouts.items()
            }
        if self.layout is not None:
            self._stores[EXPORT_STORE_ID] = ContentStore(self.layout, writable=True)
        content = ContentService(self._stores)
        self.streaming.update(content.methods())
        self._services.append(content)

    def _add_optional(
        self, options: SessionOptions, uploads: Mapping[str, BinaryIO], exporters: Sequence[Exporter]
    ) -> None:
        """Add what few builds need; their modules are loaded by those alone."""
        if secrets := options.get("secrets"):
            from buildkit_client.session.secrets import SecretsService  # noqa: PLC0415

            secret_service = SecretsService(secrets)
            secret_service.check()
            self.unary.update(secret_service.methods())
            self._services.append(secret_service)
        if ssh := options.get("ssh"):
            from buildkit_client.session.ssh import SshService  # noqa: PLC0415

            self._ssh = SshService(ssh)
            self._ssh.check()
            self.unary.update(self._ssh.unary_methods())
            self.streaming.update(self._ssh.streaming_methods())
            self._services.append(self._ssh)
        if uploads:
            from buildkit_client.session.upload import UploadService  # noqa: PLC0415

            upload_service = UploadService(uploads)
            self.uploads = tuple(upload_service.uploads)
            self.streaming.update(upload_service.methods())
            self._services.append(upload_service)
        if policy := options.get("policy"):
            from buildkit_client.session.policy import PolicyService  # noqa: PLC0415

            policy_service = PolicyService(policy)
            self.unary.update(policy_service.methods())
            self._services.append(policy_service)
        for index, exporter in enumerate(exporters):
            self._add_output(index, exporter)
        if self._layout_path is not None:  # made when it is sure that the build has but one
            from buildkit_client.oci.layout import ImageLayout  # noqa: PLC0415 - few builds write one

            self.layout = ImageLayout(self._layout_path, create=True)
        if choose := options.get("choose_exporters"):
            from buildkit_client.session.exporter import ExporterService  # noqa: PLC0415

            exporter_service = ExporterService(choose, on_chosen=partial(self._add_chosen, len(exporters)))
            self.unary.update(exporter_service.methods())
            self._services.append(exporter_service)
        if self._receivers or self.chooses_exporters:
            from buildkit_client.session.filesend import FileSendService  # noqa: PLC0415

            self.streaming.update(FileSendService(self._receivers).methods())

    def add_stores(self, stores: Mapping[str, ContentStore]) -> None:
        """Serve the stores of a build's local caches; may be called while the session runs.

        Builds of one session may use the same directory, one to read it and one to write it.
        """
        for store_id, store in stores.items():
            known = self._stores.get(store_id)
            writable = store.writable or (known is not None and known.writable)
            self._stores[store_id] = replace(store, writable=writable)

    def _add_chosen(self, first: int, exporters: Sequence[Exporter]) -> None:
        """Receive what exporters send that were chosen while the build ran; their ids follow those of the request."""
        from buildkit_client.options import OutputLayout  # noqa: PLC0415 - few builds choose late

        for index, exporter in enumerate(exporters, first):
            if isinstance(exporter.output, OutputLayout):
                raise OptionError(
                    "an exporter that is chosen late cannot write into an image layout",
                    hint="give it an OutputFile, or name it before the build",
                )
            self._add_output(index, exporter)

    def _add_output(self, index: int, exporter: Exporter) -> None:
        """Receive what an exporter sends to us, if it does."""
        if exporter.output is None:
            return
        from buildkit_client.options import OutputLayout  # noqa: PLC0415 - for builds that send us something

        if isinstance(exporter.output, OutputLayout):
            if self._layout_path is not None:
                raise OptionError(
                    "a build can write into one OCI image layout only",
                    why="the daemon has one store of that kind for a session",
                    hint="write the others as tar files, or copy them afterwards",
                )
            self._layout_path = exporter.output.path
            return
        from buildkit_client.session.receivers import place_of, receiver_for  # noqa: PLC0415 - for few builds

        place = place_of(exporter.output)
        if place in self._places:
            raise OptionError(
                "two exporters write to the same place",
                why=str(place) if isinstance(place, Path) else "they share a stream, as standard output is one",
                hint="give each a place of its own",
            )
        self._places.add(place)
        receiver = receiver_for(exporter)
        self._receivers[index] = receiver
        self._services.append(receiver)

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
        for service in self._services:
            errors = getattr(service, "errors", None) or [getattr(service, "error", None)]
            for error in errors:
                if isinstance(error, BuildKitError) and str(error) in message:
                    return error
        if message.endswith("EOF"):  # all that a daemon says that was still sending when we ended an export
            return next((error for one in self._receivers.values() for error in _export_errors(one)), None)
        return None

    def hindrance(self) -> str:
        """Return what may have made a step fail though no message says so; empty when nothing did.

        That is an SSH agent that went away: the step alone knows what it wanted of it.
        """
        if self._ssh is None or not self._ssh.errors:
            return ""
        error = self._ssh.errors[-1]
        return f"{error}: {error.why}"

    def finish(self, exporters: Sequence[Exporter], response: Mapping[str, str]) -> None:
        """Record a finished image in the layout's index: the daemon leaves that to us.

        Reference: client/solve.go, the handling of ``containerimage.descriptor``.
        """
        if self.layout is None:
            return
        from buildkit_client.oci.descriptor import Descriptor  # noqa: PLC0415 - few builds write a layout
        from buildkit_client.options import OutputLayout  # noqa: PLC0415

        if not any(isinstance(one.output, OutputLayout) for one in exporters):
            return
        text = response.get("containerimage.descriptor", "")
        if text:
            descriptor = Descriptor.from_json(json.loads(b64decode(text)))
            names = [name for name in response.get("image.name", "").split(",") if name]
            self.layout.add_image(descriptor, names)


def _export_errors(receiver: Receiver) -> list[ExportError]:
    errors = getattr(receiver, "errors", None) or [getattr(receiver, "error", None)]
    return [error for error in errors if isinstance(error, ExportError)]


def _docker_credentials() -> CredentialsProvider:
    return DockerConfig(default_docker_config_path(os.environ))


def local_directories(directories: Mapping[str, Path | str | LocalDirectory]) -> dict[str, Path | LocalDirectory]:
    """Return the local directories with absolute paths."""
    return {
        name: replace(value, path=value.path.absolute())
        if isinstance(value, LocalDirectory)
        else Path(value).absolute()
        for name, value in directories.items()
    }
