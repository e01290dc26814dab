"""What git knows of the source that is built: a description for the record, and the commit.

Both are about the folder that is built. (Convox takes the description from the current folder and the commit from the
other, which is wrong as soon as the two differ.) Whatever goes wrong, the answer is empty: a build does not need git.

git runs without the variables that a hook or another tool may have set (``GIT_DIR`` points elsewhere, then), asks
nothing, and does not start the programs that a repository's own configuration can name for these commands, except its
content filters, without which no changed file can be told.

Reference: convox/convox pkg/cli/builds.go, build.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_DESCRIPTION = 1000
"""Characters of the longest description."""

_SAFE_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "-c", "i18n.logOutputEncoding=UTF-8")

# Of git's variables, those that say where git and its configuration are, and nothing about a repository.
_KEPT_VARIABLES = frozenset(
    {
        "GIT_CEILING_DIRECTORIES",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM",
        "GIT_EXEC_PATH",
    }
)


@dataclass(frozen=True, slots=True)
class GitSource:
    """What git says.

    Attributes:
        description: ``build <ten hex digits> <subject>``; empty when a tracked file was changed, or without git.
        sha: The commit's full id, or empty.
    """

    description: str = ""
    sha: str = ""


def describe_source(path: Path, environ: Mapping[str, str], *, timeout_s: float = 10.0) -> GitSource:
    """Ask git about a folder.

    Args:
        path: The folder that is built.
        environ: The environment, for ``PATH`` and ``HOME``.
        timeout_s: How long git may take altogether; what is not known by then stays empty.
    """
    deadline = time.monotonic() + timeout_s
    head = _run(path, environ, deadline, "log", "-n", "1", "--no-color", "--pretty=%H%n%h %s", "--abbrev=10")
    if head is None:
        return GitSource()
    sha, _, title = head.partition("\n")
    is_clean = _run(path, environ, deadline, "diff", "--quiet", "--no-ext-diff", "--no-textconv") is not None
    title = "".join(char if char.isprintable() else " " for char in title).strip()
    return GitSource(description=f"build {title}"[:MAX_DESCRIPTION] if is_clean else "", sha=sha.strip())


def _run(path: Path, environ: Mapping[str, str], deadline: float, *arguments: str) -> str | None:
    """Return what a git command printed, None when it failed, is missing, or took too long."""
    import subprocess  # noqa: PLC0415  # only builds need it

    clean = {name: value for name, value in environ.items() if not name.startswith("GIT_") or name in _KEPT_VARIABLES}
    clean |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(path), *_SAFE_OPTIONS, *arguments],
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=max(deadline - time.monotonic(), 0.01),
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
