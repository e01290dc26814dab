"""Slash-separated paths as Go's ``path`` package reads them; what a graph says about paths is part of its digest.

Reference: Go path.Clean, path.Join; client/llb/fileop.go, normalizePath.
"""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """Return the shortest path of the same meaning; "." for an empty one.

    Python keeps two leading slashes, as POSIX allows; Go makes one of them.
    """
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def join(*parts: str) -> str:
    """Return the parts with slashes between them, cleaned; empty ones are left out, absolute ones do not start anew."""
    kept = [part for part in parts if part]
    return clean("/".join(kept)) if kept else ""


def absolute(directory: str, path: str, *, keep_slash: bool = False) -> str:
    """Return a path of a file operation, read from the working directory.

    Args:
        directory: The working directory, itself read from "/".
        path: The path; empty means the working directory.
        keep_slash: Whether "/" or "/." at the end stays: for the destination of a copy it says "into".
    """
    result = clean(path)
    if not result.startswith("/"):
        result = join("/", directory, result)
    if keep_slash and path.endswith("/") and not result.endswith("/"):
        result += "/"
    elif keep_slash and path.endswith("/."):
        result = result.removesuffix("/") + "/."
    return result
