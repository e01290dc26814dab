"""Image formats and registries: references, descriptors, image layouts, archives, and a registry client.

What talks to registries is imported at first use, since it needs an HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.oci.archive import BlobSource, OciArchive, import_oci_archive, write_oci_archive
from buildkit_client.oci.blob_store import BlobInfo, BlobStore, BlobWriter
from buildkit_client.oci.credentials import (
    ChainCredentials,
    Credentials,
    CredentialsProvider,
    DockerConfig,
    DockerHubCredentials,
    StaticCredentials,
    default_docker_config_path,
)
from buildkit_client.oci.decompress import DecompressedReader, DecompressLimits
from buildkit_client.oci.descriptor import Descriptor, Platform
from buildkit_client.oci.digest import Digest, HashingWriter, is_digest
from buildkit_client.oci.image import ImageConfig, ImageIndex, ImageManifest
from buildkit_client.oci.layout import ImageLayout
from buildkit_client.oci.read_ahead import read_ahead
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.repository import RepositoryBlobs
from buildkit_client.oci.staging import (
    ArchiveLimits,
    ImportedImage,
    StagedArchive,
    checked_member_name,
    stage_oci_archive,
)
from buildkit_client.oci.tar_stream import TarKind, TarMember, TarReader, tar_header
from buildkit_client.oci.token import HostSecurity, HttpOptions

if TYPE_CHECKING:
    from buildkit_client.oci.registry import RegistryClient
    from buildkit_client.oci.transfer import TransferProgress, pull_image, push_image

_LAZY = {
    "RegistryClient": "registry",
    "TransferProgress": "transfer",
    "pull_image": "transfer",
    "push_image": "transfer",
}

__all__ = [
    "ArchiveLimits",
    "BlobInfo",
    "BlobSource",
    "BlobStore",
    "BlobWriter",
    "ChainCredentials",
    "Credentials",
    "CredentialsProvider",
    "DecompressLimits",
    "DecompressedReader",
    "Descriptor",
    "Digest",
    "DockerConfig",
    "DockerHubCredentials",
    "HashingWriter",
    "HostSecurity",
    "HttpOptions",
    "ImageConfig",
    "ImageIndex",
    "ImageLayout",
    "ImageManifest",
    "ImportedImage",
    "OciArchive",
    "Platform",
    "Reference",
    "RegistryClient",
    "RepositoryBlobs",
    "StagedArchive",
    "StaticCredentials",
    "TarKind",
    "TarMember",
    "TarReader",
    "TransferProgress",
    "checked_member_name",
    "default_docker_config_path",
    "import_oci_archive",
    "is_digest",
    "pull_image",
    "push_image",
    "read_ahead",
    "stage_oci_archive",
    "tar_header",
    "write_oci_archive",
]


def __getattr__(name: str) -> object:
    """Import what needs the HTTP library when it is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
