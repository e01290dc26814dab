"""Image formats and registries: references, descriptors, image layouts, archives, and a registry client.

Names are loaded on first use: a build that only needs logins does not pay for archives and an HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        normalize_host,
    )
    from buildkit_client.oci.decompress import DecompressedReader, DecompressLimits
    from buildkit_client.oci.descriptor import Descriptor, Platform
    from buildkit_client.oci.digest import Digest, HashingWriter, is_digest
    from buildkit_client.oci.image import ImageConfig, ImageIndex, ImageManifest, read_image_config
    from buildkit_client.oci.layout import ImageLayout
    from buildkit_client.oci.prefetch import read_ahead
    from buildkit_client.oci.reference import Reference
    from buildkit_client.oci.registry import RegistryClient
    from buildkit_client.oci.registry_check import LoginCheck, RateLimit, check_login
    from buildkit_client.oci.repository import RegistryReader, RepositoryBlobs
    from buildkit_client.oci.staging import (
        ArchiveLimits,
        ImportedImage,
        StagedArchive,
        checked_member_name,
        stage_oci_archive,
    )
    from buildkit_client.oci.tar_stream import TarKind, TarMember, TarReader, tar_header
    from buildkit_client.oci.token import HostSecurity, HttpOptions
    from buildkit_client.oci.transfer import (
        PushAhead,
        TransferProgress,
        pull_image,
        push_image,
        push_untagged,
        tag_image,
    )

_HOMES = {
    "archive": (
        "BlobSource",
        "OciArchive",
        "import_oci_archive",
        "write_oci_archive",
    ),
    "blob_store": (
        "BlobInfo",
        "BlobStore",
        "BlobWriter",
    ),
    "credentials": (
        "ChainCredentials",
        "Credentials",
        "CredentialsProvider",
        "DockerConfig",
        "DockerHubCredentials",
        "StaticCredentials",
        "default_docker_config_path",
        "normalize_host",
    ),
    "decompress": (
        "DecompressLimits",
        "DecompressedReader",
    ),
    "descriptor": (
        "Descriptor",
        "Platform",
    ),
    "digest": (
        "Digest",
        "HashingWriter",
        "is_digest",
    ),
    "image": (
        "ImageConfig",
        "ImageIndex",
        "ImageManifest",
        "read_image_config",
    ),
    "layout": ("ImageLayout",),
    "prefetch": ("read_ahead",),
    "reference": ("Reference",),
    "registry": ("RegistryClient",),
    "registry_check": (
        "LoginCheck",
        "RateLimit",
        "check_login",
    ),
    "repository": (
        "RegistryReader",
        "RepositoryBlobs",
    ),
    "staging": (
        "ArchiveLimits",
        "ImportedImage",
        "StagedArchive",
        "checked_member_name",
        "stage_oci_archive",
    ),
    "tar_stream": (
        "TarKind",
        "TarMember",
        "TarReader",
        "tar_header",
    ),
    "token": (
        "HostSecurity",
        "HttpOptions",
    ),
    "transfer": (
        "PushAhead",
        "TransferProgress",
        "pull_image",
        "push_image",
        "push_untagged",
        "tag_image",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

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
    "LoginCheck",
    "OciArchive",
    "Platform",
    "PushAhead",
    "RateLimit",
    "Reference",
    "RegistryClient",
    "RegistryReader",
    "RepositoryBlobs",
    "StagedArchive",
    "StaticCredentials",
    "TarKind",
    "TarMember",
    "TarReader",
    "TransferProgress",
    "check_login",
    "checked_member_name",
    "default_docker_config_path",
    "import_oci_archive",
    "is_digest",
    "normalize_host",
    "pull_image",
    "push_image",
    "push_untagged",
    "read_ahead",
    "read_image_config",
    "stage_oci_archive",
    "tag_image",
    "tar_header",
    "write_oci_archive",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
