"""The differences between two builds, as people read them: tables first, then what changed in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convox.output.sizes import size
from convox.output.tables import one_line
from convox.output.times import ago, elapsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convox.build_diff import BuildDiff, Change, ServiceDiff
    from convox.models import Build
    from convox.output.console import Console

_SHORT_DIGEST = 12
_COMMIT = 10
_LABEL = 6


def show_diff(console: Console, diff: BuildDiff) -> None:
    """Write the differences."""
    steps = [
        (sum(service.steps[side].steps for service in diff.services), sum(s.steps[side].cached for s in diff.services))
        for side in (0, 1)
    ]
    left, right = (_record(build, *counts) for build, counts in zip((diff.before, diff.after), steps, strict=True))
    rows = [(name, left[name], right[name]) for name in left if left[name] or right[name]]
    console.table(("BUILD", diff.before.id, diff.after.id), rows)
    if diff.services:
        console.print()
        console.table(
            ("SERVICE", "IMAGE", "DIGEST", "SIZE", "CACHED"),
            [
                (
                    service.name,
                    service.state,
                    _arrow(*(_short(digest) for digest in service.digests)),
                    _arrow(*(size(count) for count in service.sizes)),
                    _arrow(*(f"{one.cached}/{one.steps}" if one.steps else "" for one in service.steps)),
                )
                for service in diff.services
            ],
        )
    alike: dict[tuple[str, ...], list[str]] = {}  # services of one image differ in the same things
    for service in diff.services:
        alike.setdefault(tuple(_service_lines(service)), []).append(service.name)
    for lines, names in alike.items():
        _block(console, ", ".join(names), lines)
    _block(console, "environment", (_sign(change) for change in diff.environment))
    _block(console, "convox.yml", diff.manifest)


def _record(build: Build, steps: int, cached: int) -> dict[str, str]:
    return {
        "Status": str(build.status),
        "Reason": build.reason,
        "Release": build.release,
        "Description": build.description,
        "Commit": build.git_sha[:_COMMIT],
        "Repository": build.repository,
        "Started": ago(build.started),
        "Elapsed": elapsed(build.started, build.ended),
        "Cached": f"{cached} of {steps} steps" if steps else "",
    }


def _block(console: Console, title: str, lines: Iterable[str]) -> None:
    body = [f"  {one_line(line)}".rstrip() for line in lines]
    if body:
        console.print("\n".join(("", console.paint(title, "h1"), *body)))


def _service_lines(service: ServiceDiff) -> Iterator[str]:
    for label, changes in (("base", service.bases), ("arg", service.args), ("env", service.env)):
        for change in changes:
            yield f"{label:<{_LABEL}}{_sign(change, has_values=True)}"
    for sign, layers in (("-", service.removed_layers), ("+", service.added_layers)):
        for layer in layers:
            yield f"{'layer':<{_LABEL}}{sign} {size(layer.size_bytes):>6}  {layer.command or _short(layer.digest)}"
    for note in service.notes:
        yield f"{'note':<{_LABEL}}{note}"


def _sign(change: Change, *, has_values: bool = False) -> str:
    """Return a change as one line: ``+`` for what is new, ``-`` for what is gone, ``~`` for what is another."""
    if not has_values:
        sign = "+" if change.before is None else "-" if change.after is None else "~"
        return f"{sign} {change.name}"
    if change.before is None:
        return f"+ {change.name}={change.after}"
    if change.after is None:
        return f"- {change.name}={change.before}"
    return f"~ {change.name}: {change.before} -> {change.after}"


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before or '-'} -> {after or '-'}"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_SHORT_DIGEST]
