"""Media types and annotation keys of OCI images and their docker forerunners.

Reference: OCI image-spec, media-types.md and annotations.md; docker registry, "Image Manifest Version 2, Schema 2".
"""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_LAYER_NONDISTRIBUTABLE_PREFIX = "application/vnd.oci.image.layer.nondistributable.v1.tar"

DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_IMAGE_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER_PREFIX = "application/vnd.docker.image.rootfs.foreign.diff.tar"

DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

BUILDKIT_CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
IN_TOTO = "application/vnd.in-toto+json"

INDEXES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
IMAGE_MANIFESTS = frozenset({OCI_IMAGE_MANIFEST, DOCKER_IMAGE_MANIFEST})
MANIFESTS = INDEXES | IMAGE_MANIFESTS
"""Everything that names other blobs by digest."""
SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})

ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_IMAGE_NAME = "io.containerd.image.name"
ANNOTATION_REFERENCE_TYPE = "vnd.docker.reference.type"
"""Marks a manifest in an index as an attestation of another one."""


def is_index(media_type: str) -> bool:
    """Whether a media type is an OCI index or docker manifest list."""
    return media_type in INDEXES


def is_image_manifest(media_type: str) -> bool:
    """Whether a media type is an OCI or docker image manifest."""
    return media_type in IMAGE_MANIFESTS


def may_be_absent(media_type: str) -> bool:
    """Whether a layer of this type may lie elsewhere: foreign layers are not distributed with their image."""
    return media_type.startswith((OCI_LAYER_NONDISTRIBUTABLE_PREFIX, DOCKER_FOREIGN_LAYER_PREFIX))


def layer_compression(media_type: str) -> str | None:
    """Return ``gzip``, ``zstd`` or ``none`` for a layer's media type, or None when it is not a layer's."""
    if media_type in (OCI_LAYER, DOCKER_LAYER, OCI_LAYER_NONDISTRIBUTABLE_PREFIX, DOCKER_FOREIGN_LAYER_PREFIX):
        return "none"
    if media_type.startswith((OCI_LAYER, OCI_LAYER_NONDISTRIBUTABLE_PREFIX, DOCKER_LAYER, DOCKER_FOREIGN_LAYER_PREFIX)):
        if media_type.endswith(("+gzip", ".gzip")):
            return "gzip"
        if media_type.endswith(("+zstd", ".zstd")):
            return "zstd"
    return None
