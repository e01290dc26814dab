"""What a caller asks for: frozen values that turn into the string maps of the wire; no IO."""

from buildkit_client.options.caches import Cache, CacheMode, RawCache, RegistryCache
from buildkit_client.options.exporters import (
    Compression,
    Exporter,
    ImageExporter,
    OciExporter,
    Output,
    OutputDirectory,
    OutputFile,
    OutputLayout,
    OutputStream,
    RawExporter,
)
from buildkit_client.options.frontend import DockerfileFrontend, Frontend, RawFrontend
from buildkit_client.options.secrets import Secret, SecretCallback, SecretFile, SecretValue, SshAgent

__all__ = [
    "Cache",
    "CacheMode",
    "Compression",
    "DockerfileFrontend",
    "Exporter",
    "Frontend",
    "ImageExporter",
    "OciExporter",
    "Output",
    "OutputDirectory",
    "OutputFile",
    "OutputLayout",
    "OutputStream",
    "RawCache",
    "RawExporter",
    "RawFrontend",
    "RegistryCache",
    "Secret",
    "SecretCallback",
    "SecretFile",
    "SecretValue",
    "SshAgent",
]
