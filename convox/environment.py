"""An app's environment as text, ``NAME=value`` lines sorted by name, and as values by name.

A line has one value: a value of several lines would lose all but its first when it is read again, so there is none.

Reference: convox/convox pkg/structs/environment.go; pkg/common/env.go, EnvDiff; pkg/cli/env.go, EnvSet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convox.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "****"
"""What a value is shown as."""


def parse_environment(text: str) -> dict[str, str]:
    """Return the values in the text of a release, by name; lines without a name and ``=`` are passed over."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        name, equals, value = line.removesuffix("\r").partition("=")
        if equals and name.strip():
            values[name.strip()] = value
    return values


def format_environment(values: Mapping[str, str]) -> str:
    """Return an environment as text, sorted; the empty text for none."""
    return "\n".join(sorted(f"{name}={value}" for name, value in values.items()))


def masked_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return the names with no value that could be read."""
    return dict.fromkeys(values, MASK)


def describe_change(before: str, after: str) -> str:
    """Return what differs between two environments, ``add:A change:B remove:C`` sorted by name; empty for nothing.

    Reference: convox/convox pkg/common/env.go, EnvDiff.
    """
    old, new = parse_environment(before), parse_environment(after)
    words = [f"add:{name}" for name in sorted(new.keys() - old.keys())]
    words += [f"change:{name}" for name in sorted(new.keys() & old.keys()) if new[name] != old[name]]
    words += [f"remove:{name}" for name in sorted(old.keys() - new.keys())]
    return " ".join(words)


def read_arguments(arguments: Iterable[str]) -> dict[str, str]:
    """Read ``NAME=value`` arguments; of a name given twice the last counts.

    Raises:
        UsageError: One is no such pair. The text never repeats it: it may be a secret.
    """
    values: dict[str, str] = {}
    for number, argument in enumerate(arguments, start=1):
        name, equals, value = argument.partition("=")
        if not equals:
            raise UsageError(f"argument {number} is not NAME=value", why="it has no =")
        values[_checked_name(name, f"argument {number}")] = _checked_value(name, value)
    return values


def read_lines(text: str, source: str) -> dict[str, str]:
    """Read the lines of a file that somebody wrote; empty lines and those that begin with ``#`` are comments.

    Args:
        text: The file.
        source: What errors call it.

    Raises:
        UsageError: A line is no ``NAME=value`` pair. The text never repeats it: it may be a secret.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise UsageError(
                f"{source}, line {number}: it is not NAME=value", why="it has no =", hint="a value has one line"
            )
        values[_checked_name(name.strip(), f"{source}, line {number}")] = _checked_value(name.strip(), value)
    return values


def _checked_name(name: str, where: str) -> str:
    if not name:
        raise UsageError(f"{where}: the name before = is empty")
    if not name.isprintable() or any(char.isspace() for char in name):
        raise UsageError(f"{where}: the name before = has a space or a character that cannot be shown")
    return name


def _checked_value(name: str, value: str) -> str:
    if "\n" in value or value.endswith("\r") or "\0" in value:
        raise UsageError(
            f"the value of {name} has a NUL" if "\0" in value else f"the value of {name} has more than one line",
            hint="encode it, for example with base64, and decode it in the app",
        )
    if value == MASK:
        raise UsageError(
            f"the value of {name} is the mask {MASK}",
            why="convox env shows it in place of a value",
            hint="take values to set from convox env --reveal",
        )
    return value
