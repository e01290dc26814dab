"""What the log of a build tells of its steps: how many there were, how many came from a cache, from which images.

The log is the builder's plain progress with the services before each line, ``web,worker | #4 [1/3] FROM alpine``. What
does not look so is passed over: a log may come from elsewhere, and a step may print anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_LINE_BYTES = 64 * 1024
_STEP = re.compile(rb"([a-z0-9,-]+) \| #(\d+) \[(?:[^\]]* )?\d+/\d+\] (.*)")
_CACHED = re.compile(rb"([a-z0-9,-]+) \| #(\d+) CACHED")


@dataclass(slots=True)
class LogFacts:
    """What the log of one service tells.

    Attributes:
        steps: How many steps of the Dockerfile were gone through; FROM is none.
        cached: How many of them came from a cache.
        bases: Images that it began from, as the builder resolved them, each once.
    """

    steps: int = 0
    cached: int = 0
    bases: dict[str, None] = field(default_factory=dict)


def read_log_facts(chunks: Iterable[bytes]) -> dict[str, LogFacts]:
    """Read a log.

    Args:
        chunks: The log, cut anywhere.

    Returns:
        Facts by service; only of services that the log names.
    """
    steps: dict[tuple[bytes, bytes], bool] = {}
    facts: dict[bytes, LogFacts] = {}
    for line in _lines(chunks):
        if (match := _STEP.fullmatch(line)) is not None:
            label, number, command = match.groups()
            fact = facts.setdefault(label, LogFacts())
            if command.startswith(b"FROM "):
                fact.bases.setdefault(command[5:].decode("utf-8", "replace"))
            elif (label, number) not in steps:
                steps[label, number] = False
                fact.steps += 1
        elif (match := _CACHED.fullmatch(line)) is not None and steps.get((match[1], match[2])) is False:
            steps[match[1], match[2]] = True
            facts[match[1]].cached += 1
    return {service: fact for label, fact in facts.items() for service in label.decode().split(",")}


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends, only the beginning of very long ones."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        rest = rest[:_MAX_LINE_BYTES]
    if rest:
        yield rest
