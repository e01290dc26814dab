"""The part of Go's templates that ``--format`` is used with: fields, ``json`` and ``range``.

Understood are text, ``{{.Field.Inner}}``, ``{{json .}}``, ``{{json .Field}}``, ``{{range .Field}}…{{end}}``, string
literals and trimming (``{{-`` and ``-}}``); ``json`` alone stands for ``{{json .}}``. Anything else is refused.

Reference: cmd/buildctl/common/common.go, ParseTemplate; Go, text/template.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACTION = re.compile(r"(\s*)\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_PATH = re.compile(r"\.(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?")


@dataclass(frozen=True, slots=True)
class Record:
    """A Go struct: its fields by the name that templates use, each with the name that JSON uses.

    Attributes:
        fields: Field name, JSON name, value; in order. An empty JSON name leaves the field out.
    """

    fields: tuple[tuple[str, str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """The value that JSON shows."""
        return {json_name: _plain(value) for _, json_name, value in self.fields if json_name}

    def field(self, name: str) -> Any:
        """Value of a field by the name that templates use.

        Raises:
            OptionError: There is no such field.
        """
        for field_name, _, value in self.fields:
            if field_name == name:
                return value
        raise OptionError(f"template: can't evaluate field {name}")


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def render_template(template: str, value: Any) -> str:
    """Fill a template in.

    Args:
        template: Its text, or ``json``.
        value: A :class:`Record`, a list of them, or a plain value.

    Raises:
        OptionError: The template uses what is not understood here, or a field that is not there.
    """
    tokens = _tokens("{{json .}}" if template == "json" else template)
    text, position = _render(tokens, 0, value)
    if position < len(tokens):
        raise OptionError("template: unexpected {{end}}")
    return text


def _tokens(template: str) -> list[tuple[bool, str]]:
    """Split into texts and actions; True marks an action."""
    tokens: list[tuple[bool, str]] = []
    position = 0
    trims_next = False
    for match in _ACTION.finditer(template):
        space, trims_before, action, trims_after = match.groups()
        text = template[position : match.start()] + ("" if trims_before else space)
        tokens.append((False, text.lstrip() if trims_next else text))
        tokens.append((True, action))
        trims_next = trims_after is not None
        position = match.end()
    rest = template[position:]
    tokens.append((False, rest.lstrip() if trims_next else rest))
    return tokens


def _render(tokens: Sequence[tuple[bool, str]], position: int, value: Any) -> tuple[str, int]:
    """Render up to the end or to the ``end`` that closes this block; return the place behind."""
    out: list[str] = []
    while position < len(tokens):
        is_action, text = tokens[position]
        if not is_action:
            out.append(text)
            position += 1
        elif text == "end":
            return "".join(out), position
        elif text.startswith("range "):
            rendered, position = _render_range(tokens, position, value)
            out.append(rendered)
        else:
            out.append(_evaluate(text, value))
            position += 1
    return "".join(out), position


def _render_range(tokens: Sequence[tuple[bool, str]], position: int, value: Any) -> tuple[str, int]:
    items = _look_up(tokens[position][1].removeprefix("range ").strip(), value)
    out: list[str] = []
    end = _end_of_block(tokens, position + 1)
    for item in items or ():
        rendered, _ = _render(tokens, position + 1, item)
        out.append(rendered)
    return "".join(out), end + 1


def _end_of_block(tokens: Sequence[tuple[bool, str]], position: int) -> int:
    """Find the ``end`` that closes the block whose body begins at a place."""
    depth = 0
    for place in range(position, len(tokens)):
        is_action, text = tokens[place]
        if is_action and text.startswith("range "):
            depth += 1
        elif is_action and text == "end":
            if depth == 0:
                return place
            depth -= 1
    raise OptionError("template: unexpected EOF")


def _evaluate(action: str, value: Any) -> str:
    if action.startswith("json "):
        shown = _plain(_look_up(action.removeprefix("json ").strip(), value))
        return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    if len(action) > 1 and action[0] == action[-1] == '"':
        return str(json.loads(action))
    return _go_text(_look_up(action, value))


def _look_up(path: str, value: Any) -> Any:
    if not _PATH.fullmatch(path):
        raise OptionError(
            f"template: {{{{{path}}}}} is not understood", hint="use fields, json and range; or --format json and jq"
        )
    for name in path.split("."):
        if name:
            if not isinstance(value, Record):
                raise OptionError(f"template: can't evaluate field {name}")
            value = value.field(name)
    return value


def _go_text(value: Any) -> str:
    """A value as Go's ``{{.}}`` prints it."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{' '.join(_go_text(one) for one in value)}]"
        case dict():
            return f"map[{' '.join(f'{key}:{_go_text(value[key])}' for key in sorted(value))}]"
        case Record():
            return f"{{{' '.join(_go_text(one) for _, _, one in value.fields)}}}"
    return str(value)
