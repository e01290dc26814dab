"""What a caller asks for: frozen values that turn into the string maps of the wire; no IO.

Names are loaded on first use: a command that only needs a few of them does not pay for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_client.options.attestations import Attestation, Provenance, Sbom
    from buildkit_client.options.caches import Cache, CacheMode, InlineCache, LocalCache, RawCache, RegistryCache
    from buildkit_client.options.cloud_caches import AzblobCache, GhaCache, S3Cache
    from buildkit_client.options.compression import Compression
    from buildkit_client.options.contexts import (
        DockerfileText,
        GitContext,
        HttpContext,
        ImageContext,
        MainContext,
        NamedContext,
        OciLayoutContext,
        TarContext,
    )
    from buildkit_client.options.exporters import Exporter, LocalExporter, RawExporter, TarExporter
    from buildkit_client.options.frontend import DockerfileFrontend, GatewayFrontend
    from buildkit_client.options.image_exporters import DockerExporter, ImageExporter, OciExporter
    from buildkit_client.options.known import (
        check_cache_export,
        check_cache_import,
        check_exporter,
        check_frontend_attrs,
    )
    from buildkit_client.options.local_directory import LocalDirectory
    from buildkit_client.options.needs import InputFile, Needs
    from buildkit_client.options.outputs import Output, OutputDirectory, OutputFile, OutputLayout, OutputStream
    from buildkit_client.options.raw_frontend import Frontend, RawFrontend
    from buildkit_client.options.secrets import (
        Secret,
        SecretCallback,
        SecretEnv,
        SecretFile,
        SecretValue,
        SshAgent,
        SshKeys,
        SshSource,
    )
    from buildkit_client.options.source_policy import Constraint, SourcePolicy, SourceRule

_HOMES = {
    "attestations": (
        "Attestation",
        "Provenance",
        "Sbom",
    ),
    "caches": (
        "Cache",
        "CacheMode",
        "InlineCache",
        "LocalCache",
        "RawCache",
        "RegistryCache",
    ),
    "cloud_caches": (
        "AzblobCache",
        "GhaCache",
        "S3Cache",
    ),
    "compression": ("Compression",),
    "contexts": (
        "DockerfileText",
        "GitContext",
        "HttpContext",
        "ImageContext",
        "MainContext",
        "NamedContext",
        "OciLayoutContext",
        "TarContext",
    ),
    "exporters": (
        "Exporter",
        "LocalExporter",
        "RawExporter",
        "TarExporter",
    ),
    "frontend": (
        "DockerfileFrontend",
        "GatewayFrontend",
    ),
    "image_exporters": (
        "DockerExporter",
        "ImageExporter",
        "OciExporter",
    ),
    "known": (
        "check_cache_export",
        "check_cache_import",
        "check_exporter",
        "check_frontend_attrs",
    ),
    "local_directory": ("LocalDirectory",),
    "needs": (
        "InputFile",
        "Needs",
    ),
    "outputs": (
        "Output",
        "OutputDirectory",
        "OutputFile",
        "OutputLayout",
        "OutputStream",
    ),
    "raw_frontend": (
        "Frontend",
        "RawFrontend",
    ),
    "secrets": (
        "Secret",
        "SecretCallback",
        "SecretEnv",
        "SecretFile",
        "SecretValue",
        "SshAgent",
        "SshKeys",
        "SshSource",
    ),
    "source_policy": (
        "Constraint",
        "SourcePolicy",
        "SourceRule",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Attestation",
    "AzblobCache",
    "Cache",
    "CacheMode",
    "Compression",
    "Constraint",
    "DockerExporter",
    "DockerfileFrontend",
    "DockerfileText",
    "Exporter",
    "Frontend",
    "GatewayFrontend",
    "GhaCache",
    "GitContext",
    "HttpContext",
    "ImageContext",
    "ImageExporter",
    "InlineCache",
    "InputFile",
    "LocalCache",
    "LocalDirectory",
    "LocalExporter",
    "MainContext",
    "NamedContext",
    "Needs",
    "OciExporter",
    "OciLayoutContext",
    "Output",
    "OutputDirectory",
    "OutputFile",
    "OutputLayout",
    "OutputStream",
    "Provenance",
    "RawCache",
    "RawExporter",
    "RawFrontend",
    "RegistryCache",
    "S3Cache",
    "Sbom",
    "Secret",
    "SecretCallback",
    "SecretEnv",
    "SecretFile",
    "SecretValue",
    "SourcePolicy",
    "SourceRule",
    "SshAgent",
    "SshKeys",
    "SshSource",
    "TarContext",
    "TarExporter",
    "check_cache_export",
    "check_cache_import",
    "check_exporter",
    "check_frontend_attrs",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
