"""YAML text to a tree of plain nodes that know their line, for the manifest and its checks.

PyYAML turns the text into events and nothing more: no tag ever builds an object. The tree is made here because the
manifest needs what a plain ``dict`` loses (lines, order, keys given twice) and because the types of plain scalars have
to be those that Convox sees: its reader is Go's yaml.v2, where ``y`` is a boolean and ``12:30`` or a date is text.

Limits keep a hostile file cheap: nesting, the size that aliases expand to, and (at the caller) the size of the text.
An alias shares its node and is never copied. As yaml.v2 does, only the first document of a file is read.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from convox.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_DEPTH = 100
"""Levels of nesting; a convox.yml needs about six."""

MAX_EXPANDED_NODES = 250_000
"""Nodes of the tree when every alias is counted with all that it stands for."""

ScalarKind = Literal["str", "int", "float", "bool", "null"]

# The plain scalars that yaml.v2 does not read as text; Reference: gopkg.in/yaml.v2 resolve.go.
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = frozenset(
    form
    for word in ("y", "yes", "true", "on", "n", "no", "false", "off")
    for form in (word, word.capitalize(), word.upper())
)
_INT = re.compile(r"[-+]?(?:0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_FLOAT_WORDS = frozenset(
    {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN"}
)
_TAG_KINDS: dict[str, ScalarKind] = {
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:int": "int",
    "tag:yaml.org,2002:float": "float",
    "tag:yaml.org,2002:bool": "bool",
}
_GO_TYPES: dict[ScalarKind, str] = {
    "str": "string",
    "int": "int",
    "float": "float64",
    "bool": "bool",
    "null": "<nil>",
}
_IN_WORDS: dict[ScalarKind, str] = {
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "empty",
}
_QUOTED = re.compile(r"'([^']*)'")
_PARSER_TOO_DEEP = "exceeded maximum nesting depth"  # newer libyaml has a limit of its own, and reads ahead of us


@dataclass(frozen=True, slots=True)
class YamlScalar:
    """One value without structure.

    Attributes:
        value: Its text, without quotes.
        kind: What yaml.v2 takes it for.
        line: Line in the file, from 1.
        is_merge_key: Whether it is a plain ``<<``.
    """

    value: str
    kind: ScalarKind
    line: int
    is_merge_key: bool = False

    @property
    def go_type(self) -> str:
        """Go's name of the type, as Convox prints it with ``%T``."""
        return _GO_TYPES[self.kind]

    @property
    def in_words(self) -> str:
        """The type in words, for error texts."""
        return _IN_WORDS[self.kind]


@dataclass(frozen=True, slots=True)
class YamlList:
    """A list.

    Attributes:
        items: In file order.
        line: Line of its start in the file, from 1.
    """

    go_type: ClassVar[str] = "[]interface {}"
    in_words: ClassVar[str] = "a list"

    items: tuple[YamlNode, ...]
    line: int


@dataclass(frozen=True, slots=True)
class YamlEntry:
    """One key of a mapping with its value."""

    key: YamlScalar
    value: YamlNode


@dataclass(frozen=True, slots=True)
class YamlMap:
    """A mapping with its merge keys (``<<``) applied; no key appears twice.

    Attributes:
        entries: In file order, merged ones where their ``<<`` stands.
        line: Line of its start in the file, from 1.
    """

    go_type: ClassVar[str] = "map[interface {}]interface {}"
    in_words: ClassVar[str] = "a mapping"

    entries: tuple[YamlEntry, ...]
    line: int

    def entry(self, key: str) -> YamlEntry | None:
        """Return the entry of a key, or None when it is absent or its value is empty (null)."""
        for entry in self.entries:
            if entry.key.value == key:
                is_null = isinstance(entry.value, YamlScalar) and entry.value.kind == "null"
                return None if is_null else entry
        return None

    def get(self, key: str) -> YamlNode | None:
        """Return the value of a key, or None when it is absent or empty (null)."""
        entry = self.entry(key)
        return None if entry is None else entry.value


YamlNode = YamlScalar | YamlList | YamlMap


class _Event(NamedTuple):
    """What the composer needs of a parser's event: ``end`` closes a list or a mapping, ``root`` opens a document."""

    type: Literal["root", "scalar", "list", "map", "end", "alias"]
    at: int  # line index, from 0
    anchor: str | None = None
    value: str = ""
    tag: str | None = None
    plain: bool = False


def parse_yaml(text: str, *, name: str, source: str, lines: Sequence[int]) -> YamlNode | None:
    """Read the first document of a YAML text.

    Args:
        text: What to parse; a carriage return before a newline is allowed.
        name: The file's name for error texts, for example ``convox.yml``.
        source: The file as written, before values were put in: an error quotes only what stands there, so that no
            value of the environment gets into a message.
        lines: For each line of ``text`` its line in the file.

    Returns:
        The root node, or None for a file without content.

    Raises:
        ManifestError: The text is not YAML, is nested too deep, or expands to too much.

    Reference: gopkg.in/yaml.v2 decode.go.
    """
    import yaml  # noqa: PLC0415  # 20 ms that only commands reading a manifest should pay

    composer = _Composer(name, lines)
    try:
        return composer.compose(_events(text))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        if exc.problem == _PARSER_TOO_DEEP:
            raise composer.too_deep(mark.line if mark is not None else 0) from None
        problem = _scrub(": ".join(part for part in (exc.context, exc.problem) if part), source)
        line = composer.line_at(mark.line if mark is not None else 0)
        raise ManifestError(
            f"{name}:{line}: not valid YAML",
            why=problem if mark is None else f"{problem} (column {mark.column + 1})",
            hint="indent with spaces, YAML allows no tabs there" if _has_tab_indent(source, line) else "",
        ) from None
    except yaml.reader.ReaderError as exc:
        line = composer.line_at(text.count("\n", 0, exc.position))
        raise ManifestError(
            f"{name}:{line}: not valid YAML", why=f"character U+{_code_point(exc.character):04X} is not allowed"
        ) from None


def _events(text: str) -> Iterator[_Event]:
    """Yield the parser's events in the composer's form."""
    import yaml  # noqa: PLC0415

    # libyaml where it is compiled in: 20 times faster, and its messages are the ones Go's port prints.
    loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for event in yaml.parse(text, Loader=loader):
        index = event.start_mark.line if event.start_mark is not None else 0
        match event:
            case yaml.ScalarEvent():
                yield _Event("scalar", index, event.anchor, event.value, event.tag, plain=event.implicit[0])
            case yaml.SequenceStartEvent():
                yield _Event("list", index, event.anchor)
            case yaml.MappingStartEvent():
                yield _Event("map", index, event.anchor)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                yield _Event("end", index)
            case yaml.AliasEvent():
                yield _Event("alias", index, event.anchor)
            case yaml.DocumentStartEvent():
                yield _Event("root", index)


def _code_point(character: object) -> int:
    """Return the code point of the offender that PyYAML names by text, byte or number, depending on its parser."""
    match character:
        case int():
            return character
        case str() | bytes() if character:
            return ord(character[:1])
    return 0


def _scrub(problem: str, source: str) -> str:
    """Leave out quoted parts of a parser's message that do not stand in the file as written."""
    return _QUOTED.sub(lambda match: match.group() if match.group(1) in source else "'…'", problem)


def _has_tab_indent(source: str, line: int) -> bool:
    rows = source.split("\n")
    row = rows[line - 1] if line <= len(rows) else ""
    return "\t" in row[: len(row) - len(row.lstrip())]


class _Composer:
    """Builds nodes from events; its methods return a node and the number of nodes it expands to."""

    def __init__(self, name: str, lines: Sequence[int]) -> None:
        self._name = name
        self._lines = lines
        self._anchors: dict[str, tuple[YamlNode, int] | None] = {}
        self._depth = 0

    def line_at(self, index: int) -> int:
        """Return the line in the file for a line index, from 0, of the parsed text."""
        return self._lines[min(index, len(self._lines) - 1)] if self._lines else index + 1

    def compose(self, events: Iterator[_Event]) -> YamlNode | None:
        """Return the root of the first document, or None when there is none."""
        for event in events:
            if event.type == "root":
                return self._node(next(events), events)[0]
        return None

    def too_deep(self, index: int) -> ManifestError:
        """Return the error for nesting that no manifest needs."""
        return self._error(index, f"nested more than {MAX_DEPTH} levels deep")

    def _error(self, index: int, what: str, why: str = "") -> ManifestError:
        return ManifestError(f"{self._name}:{self.line_at(index)}: {what}", why=why)

    def _node(self, event: _Event, events: Iterator[_Event]) -> tuple[YamlNode, int]:
        if event.type == "alias":
            return self._alias(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # open: an alias from inside would never end
        node: YamlNode
        if event.type == "scalar":
            node, size = self._scalar(event), 1
        else:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self.too_deep(event.at)
            node, size = (self._list if event.type == "list" else self._map)(event.at, events)
            self._depth -= 1
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, size)
        return node, size

    def _alias(self, event: _Event) -> tuple[YamlNode, int]:
        anchor = event.anchor or ""
        if anchor not in self._anchors:
            raise self._error(event.at, "not valid YAML", why="an alias (*name) has no anchor (&name) before it")
        known = self._anchors[anchor]
        if known is None:
            raise self._error(event.at, "not valid YAML", why="an anchor's value contains itself")
        return known

    def _scalar(self, event: _Event) -> YamlScalar:
        kind: ScalarKind = "str"
        if event.tag is not None and event.tag != "!":
            kind = _TAG_KINDS.get(event.tag, "str")
        elif event.plain:
            kind = _plain_kind(event.value)
        return YamlScalar(event.value, kind, self.line_at(event.at), event.plain and event.value == "<<")

    def _grow(self, size: int, by: int, index: int) -> int:
        if size + by > MAX_EXPANDED_NODES:
            raise self._error(index, "document contains excessive aliasing")
        return size + by

    def _list(self, index: int, events: Iterator[_Event]) -> tuple[YamlNode, int]:
        items: list[YamlNode] = []
        size = 1
        while (event := next(events)).type != "end":
            item, item_size = self._node(event, events)
            items.append(item)
            size = self._grow(size, item_size, index)
        return YamlList(tuple(items), self.line_at(index)), size

    def _map(self, index: int, events: Iterator[_Event]) -> tuple[YamlNode, int]:
        written: dict[str, YamlEntry] = {}
        slots: list[YamlEntry | YamlNode] = []  # an entry of its own, or what a << names
        size = 1
        while (event := next(events)).type != "end":
            key, key_size = self._node(event, events)
            value, value_size = self._node(next(events), events)
            size = self._grow(size, key_size + value_size, index)
            if not isinstance(key, YamlScalar):
                raise self._error(event.at, f"a key must be a plain value, not {key.in_words}")
            if key.is_merge_key:
                slots.append(value)
                continue
            if (first := written.get(key.value)) is not None:
                raise self._error(event.at, f'key "{key.value}" is given twice', why=f"first on line {first.key.line}")
            written[key.value] = entry = YamlEntry(key, value)
            slots.append(entry)
        return YamlMap(tuple(self._merge(slots, written, index)), self.line_at(index)), size

    def _merge(
        self, slots: Sequence[YamlEntry | YamlNode], written: dict[str, YamlEntry], index: int
    ) -> Iterator[YamlEntry]:
        """Yield the entries of a mapping with those merged in; a key written in place wins, then the first merged."""
        seen = set(written)
        for slot in slots:
            if isinstance(slot, YamlEntry):
                yield slot
                continue
            for source in slot.items if isinstance(slot, YamlList) else (slot,):
                if not isinstance(source, YamlMap):
                    raise self._error(index, "map merge requires map or sequence of maps as the value")
                for entry in source.entries:
                    if entry.key.value not in seen:
                        seen.add(entry.key.value)
                        yield entry


def _plain_kind(value: str) -> ScalarKind:
    """Return what yaml.v2 takes a plain, untagged scalar for; dates and ``12:30`` stay text."""
    if value in _NULLS:
        return "null"
    if value in _BOOLS:
        return "bool"
    if value in _FLOAT_WORDS:
        return "float"
    if value[0] in "+-.0123456789":
        digits = value if value[0] == "." else value.replace("_", "")
        if _INT.fullmatch(digits):
            return "int"
        if _FLOAT.fullmatch(digits) and not math.isinf(float(digits)):
            return "float"
    return "str"
