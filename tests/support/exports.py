"""Racks on disk with builds in them, and export files, good and bad, for tests."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from buildkit_client.oci import (
    Descriptor,
    Digest,
    ImageLayout,
    ImageManifest,
    OciArchive,
    Reference,
    RegistryClient,
    media_types,
    push_image,
)
from buildkit_client.oci.credentials import StaticCredentials
from convox.archive import export_build, import_build
from convox.archive_file import Compression, ExportFormat
from convox.images import ImageStore, LayoutImages, RegistryImages
from convox.import_record import ImportSite
from convox.models import Build, BuildStatus, Release, new_build_id, now
from convox.store import Store, open_store, sqlite_url
from tests.support.images import add_image, add_platforms
from tests.support.tars import file, header, tar

NO_CREDENTIALS = StaticCredentials({})
MANIFEST = "services:\n  web:\n    build: .\n  worker:\n    build: ./worker\n"
NAMELESS_FOLDER = header(b"", kind=b"5")
"""The entry that every file of Convox has."""


class DiskRack:
    """A rack's records and images in a folder, without its parameters.

    Args:
        path: The folder.
        registry: Host of a registry that has the images; empty for a layout in the folder.
        app: The app that everything belongs to.
    """

    def __init__(self, path: Path, registry: str = "", app: str = "web") -> None:
        self.path = path
        self.app = app
        path.mkdir(parents=True, exist_ok=True)
        self.layout = ImageLayout.create(path / "images")
        self.store: Store = open_store(sqlite_url(path / "store.db"), logs_dir=path / "logs")
        self.images: ImageStore = LayoutImages(f"localhost/{app}", path / "images")
        self._registry = registry
        if registry:
            self.images = RegistryImages(f"{registry}/{app}", scratch_path=path / "transfers")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def add_build(self, services: Mapping[str, Descriptor], *, log: bytes = b"a log\n", **changes: object) -> Build:
        """Add a complete build with an image of the layout for each service, pushed where the rack has a registry."""
        build_id = new_build_id()
        repository = self.images.repository
        for service, descriptor in services.items():
            name = f"{repository}:{service}.{build_id}"
            if self._registry:
                with RegistryClient(self._registry) as client:
                    push_image(client, self.layout, descriptor, Reference.parse(name))
            else:
                self.layout.add_image(descriptor, [name])
        values: dict[str, object] = {
            "id": build_id,
            "app": self.app,
            "status": BuildStatus.COMPLETE,
            "description": "build 0a1b2c3d4e first",
            "entrypoint": "/bin/app 'two words'",
            "git_sha": "0a1b2c3d4e" * 4,
            "manifest": MANIFEST,
            "repository": repository,
            "process": "a-host:1:2",
            "started": now(),
            "ended": now(),
            "images": {service: str(descriptor.digest) for service, descriptor in services.items()},
            **changes,
        }
        build = Build(**values)  # type: ignore[arg-type]
        self.store.create_build(build)
        if log:
            self.store.append_log(self.app, build_id, log)
        return build

    def export(
        self,
        build: Build,
        compression: Compression = "gzip",
        epoch: int | None = None,
        file_format: ExportFormat = "convox",
    ) -> bytes:
        """Return a build as a file."""
        out = io.BytesIO()
        with self.images.open_source(NO_CREDENTIALS) as source:
            export_build(self.store, build, source, out, file_format=file_format, compression=compression, epoch=epoch)
        return out.getvalue()

    def take(self, data: bytes) -> tuple[Build, Release]:
        """Import a file."""
        with self.images.open_target(NO_CREDENTIALS) as target:
            site = ImportSite(app=self.app, store=self.store, repository=self.images.repository, target=target)
            return import_build(io.BytesIO(data), site)

    def leftovers(self) -> list[Path]:
        """Return the temporary files that lie around."""
        found = [*(self.path / "images" / "ingest").glob("*"), *(self.path / "transfers").glob("*")]
        return [path for path in found if path.exists()]


def oci_archive(layout: ImageLayout, descriptor: Descriptor | None = None) -> bytes:
    """Return a small image as an OCI archive."""
    out = io.BytesIO()
    OciArchive(layout, add_image(layout) if descriptor is None else descriptor).write(out)
    return out.getvalue()


def record(**fields: object) -> bytes:
    """Return a ``build.json`` as Convox writes it, with some fields changed."""
    document = {
        "id": "BAAAAAAAAAA",
        "app": "web",
        "description": "first",
        "entrypoint": "",
        "git-sha": "",
        "logs": "object://web/build/BAAAAAAAAAA/logs",
        "manifest": "services:\n  web:\n    build: .\n",
        "process": "build-baaaaaaaaaa",
        "release": "RAAAAAAAAAA",
        "reason": "",
        "repository": "registry.example.com/web",
        "status": "complete",
        "started": "2026-03-10T12:00:00.123456789Z",
        "ended": "2026-03-10T12:01:00Z",
        **fields,
    }
    return json.dumps(document, indent=2).encode()


def export_file(*members: bytes, end: bytes | None = None) -> bytes:
    """Return a packed export of raw members."""
    return gzip.compress(tar(*members) if end is None else tar(*members, end=end), 1, mtime=0)


def plain_export(archive: bytes, *, service: str = "web", **fields: object) -> bytes:
    """Return an export as a Convox rack writes it, of one service."""
    return export_file(
        file("build.json", record(**fields)), NAMELESS_FOLDER, file(f"{service}.BAAAAAAAAAA.tar", archive)
    )


def members(data: bytes) -> list[tarfile.TarInfo]:
    """Return an export's entries in order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


def contents(data: bytes) -> dict[str, bytes]:
    """Return an export's files by name, the build id taken out."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            if stream is not None:
                service, _, rest = member.name.partition(".")
                found[member.name if "." not in rest else f"{service}.tar"] = stream.read()
        return found


def contents_as_they_are(data: bytes) -> dict[str, bytes]:
    """Return an export's files by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {one.name: stream.read() for one in archive if (stream := archive.extractfile(one)) is not None}


def two_services(rack: DiskRack, **changes: object) -> Build:
    """Add a build of an image for two platforms, and another one."""
    services = {"worker": add_platforms(rack.layout), "web": add_image(rack.layout, [b"shared", b"web"])}
    return rack.add_build(services, **changes)  # type: ignore[arg-type]


def plain_image(layout: ImageLayout, layer: bytes) -> Descriptor:
    """Put an image into a layout whose one layer is not packed."""
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]}}
    ).encode()
    manifest = ImageManifest(
        config=Descriptor(media_types.OCI_CONFIG, layout.put_blob(config), len(config)),
        layers=(Descriptor(media_types.OCI_LAYER, layout.put_blob(layer), len(layer)),),
    ).to_bytes()
    return Descriptor(media_types.OCI_IMAGE_MANIFEST, layout.put_blob(manifest), len(manifest))
