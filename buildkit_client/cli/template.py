"""Go's templates, which ``--format`` takes; ``json`` alone stands for ``{{json .}}``.

Methods of Go's types are not there, apart from ``AsTime`` of times and the getters of messages.

Reference: cmd/buildctl/common/common.go, ParseTemplate; Go, text/template, exec.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buildkit_client.cli.go_values import (
    NO_VALUE,
    Named,
    Nil,
    NoValue,
    Record,
    TemplateError,
    go_text,
    go_type,
    is_true,
)
from buildkit_client.cli.template_functions import FUNCTIONS, LAZY_FUNCTIONS, CallError
from buildkit_client.cli.template_parse import (
    Block,
    Call,
    Chain,
    Constant,
    Dot,
    Field,
    Function,
    Include,
    Leave,
    Node,
    Pipeline,
    Print,
    Text,
    Tree,
    Variable,
    parse_template,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_DEPTH = 200


class Template:
    """A template that was read, and can be filled in.

    Args:
        source: Its text, or ``json``.

    Raises:
        TemplateError: It cannot be read.
    """

    def __init__(self, source: str) -> None:
        self._tree = parse_template("{{json .}}" if source == "json" else source, {*FUNCTIONS, *LAZY_FUNCTIONS})

    def lines(self, value: Any) -> Iterator[str]:
        """Fill it in, and end the line.

        Args:
            value: A :class:`~buildkit_client.cli.go_values.Record`, a list of them, or a plain value.

        Yields:
            The text in pieces; what comes before an error comes out.

        Raises:
            TemplateError: A field is not there, or a function refuses its arguments.
        """
        yield from _Run(self._tree, value).nodes(self._tree.body, value)
        yield "\n"


class _Left(Exception):  # noqa: N818 - no error, a way out
    """``break`` or ``continue`` was met."""


class _Run:
    """Fills one template in once."""

    def __init__(self, tree: Tree, value: Any, name: str = "", depth: int = 0) -> None:
        self._tree = tree
        self._name = name
        self._depth = depth
        self._variables: list[tuple[str, Any]] = [("$", value)]
        self._latest = Node(0, "")  # what was evaluated last; some errors name it

    def _fail(self, node: Node, what: str) -> TemplateError:
        before = self._tree.source[: node.position]
        column = len(before.rpartition("\n")[2].encode("utf-8", "surrogateescape"))
        place = f":{1 + before.count(chr(10))}:{column}"
        return TemplateError(f'template: {place}: executing "{self._name}" at <{node.text}>: {what}')

    # -- nodes -------------------------------------------------------------------------------------------------

    def nodes(self, nodes: Sequence[Node], dot: Any) -> Iterator[str]:
        for node in nodes:
            match node:
                case Text():
                    yield node.text
                case Print(pipeline=pipeline):
                    value = self._pipeline(pipeline, dot)
                    if not pipeline.variables:
                        yield go_text(value)
                case Block():
                    mark = len(self._variables)
                    yield from self._range(node, dot) if node.text == "range" else self._branch(node, dot)
                    del self._variables[mark:]
                case Include():
                    yield from self._include(node, dot)
                case Leave():
                    raise _Left(node.text)

    def _branch(self, node: Block, dot: Any) -> Iterator[str]:
        value = self._pipeline(node.pipeline, dot)
        inner = value if node.text == "with" else dot
        yield from self.nodes(node.body, inner) if is_true(value) else self.nodes(node.otherwise, dot)

    def _range(self, node: Block, dot: Any) -> Iterator[str]:
        value = self._pipeline(node.pipeline, dot, declares=False)
        mark = len(self._variables)
        is_empty = True
        for index, item in self._items(node, value):
            is_empty = False
            names = node.pipeline.variables
            values = [item] if len(names) == 1 else [index, item]
            for name, one in zip(names, values, strict=False):
                self._set(name, one, is_assignment=node.pipeline.is_assignment)
            try:
                yield from self.nodes(node.body, item)
            except _Left as left:
                if str(left) == "break":
                    break
            finally:
                del self._variables[mark:]
        if is_empty:
            yield from self.nodes(node.otherwise, dot)

    def _items(self, node: Block, value: Any) -> Iterator[tuple[Any, Any]]:
        match value.value if isinstance(value, Named) else value:
            case None | NoValue():
                return
            case Nil(go_type=kind) if not kind.startswith("*"):
                return
            case bool():
                pass
            case int() as count:
                yield from ((NO_VALUE, number) for number in range(count))
                return
            case list() | tuple() as items:
                yield from enumerate(items)
                return
            case dict() as items:
                yield from ((key, items[key]) for key in sorted(items))
                return
        raise self._fail(node.pipeline, f"range can't iterate over {go_text(value)}")

    def _include(self, node: Include, dot: Any) -> Iterator[str]:
        body = self._tree.named.get(node.name)
        if body is None:
            raise self._fail(node, f'template "{node.name}" not defined')
        if self._depth >= _MAX_DEPTH:
            raise self._fail(node, f"exceeded maximum template depth ({_MAX_DEPTH})")
        value = None if node.pipeline is None else self._pipeline(node.pipeline, dot)
        yield from _Run(self._tree, value, node.name, self._depth + 1).nodes(body, value)

    # -- values ------------------------------------------------------------------------------------------------

    def _pipeline(self, pipeline: Pipeline, dot: Any, *, declares: bool = True) -> Any:
        given: tuple[Any, ...] = ()
        for call in pipeline.calls:
            given = (self._call(call, dot, given),)
        if declares:
            for name in pipeline.variables:
                self._set(name, given[0], is_assignment=pipeline.is_assignment)
        return given[0]

    def _set(self, name: str, value: Any, *, is_assignment: bool) -> None:
        if is_assignment:
            for place in range(len(self._variables) - 1, -1, -1):
                if self._variables[place][0] == name:
                    self._variables[place] = (name, value)
                    return
        self._variables.append((name, value))

    def _call(self, call: Call, dot: Any, given: tuple[Any, ...]) -> Any:
        """Evaluate a call; ``given`` is what the one before it gave, its last argument."""
        first, *rest = call.operands
        if isinstance(first, Function):
            return self._function(first.text, call, rest, dot, given)
        if rest or given:
            if isinstance(first, (Field, Chain, Variable)) and first.names:
                self._operand(first, dot)  # a field that is not there is the better error
                name = first.text.rpartition(".")[2]
                raise self._fail(first, f"{name} has arguments but cannot be invoked as function")
            raise self._fail(first, f"can't give argument to non-function {first.text}")
        if isinstance(first, Constant) and first.value is None:
            raise self._fail(first, "nil is not a command")
        return self._operand(first, dot)

    def _function(self, name: str, call: Call, operands: Sequence[Node], dot: Any, given: tuple[Any, ...]) -> Any:
        count = len(operands) + len(given)
        place = Node(call.position, name)
        if name in LAZY_FUNCTIONS:
            if not count:
                raise self._fail(place, f"wrong number of args for {name}: want at least 1 got 0")
            value: Any = None
            for operand in operands:
                value = self._operand(operand, dot)
                if is_true(value) == (name == "or"):
                    return value
            return given[0] if given else value
        least, most, function = FUNCTIONS[name]
        if most is not None and not least <= count <= most:
            raise self._fail(place, f"wrong number of args for {name}: want {most} got {count}")
        if count < least:
            raise self._fail(place, f"wrong number of args for {name}: want at least {least} got {count}")
        try:
            return function(*(self._operand(operand, dot) for operand in operands), *given)
        except CallError as exc:
            raise self._fail(call, f"error calling {name}: {exc}") from exc

    def _operand(self, node: Node, dot: Any) -> Any:
        if not isinstance(node, (Chain, Pipeline)):
            self._latest = node
        match node:
            case Dot():
                return dot
            case Constant():
                return node.value
            case Field():
                return self._fields(node, dot, node.names)
            case Variable():
                value = next(value for name, value in reversed(self._variables) if name == node.name)
                return self._fields(node, value, node.names)
            case Chain():
                value = self._operand(node.operand, dot)
                return self._fields(self._latest, value, node.names)
            case Pipeline():
                return self._pipeline(node, dot)
            case Function():
                return self._function(node.text, Call(node.position, node.text, (node,)), (), dot, ())
        raise self._fail(node, f"can't evaluate command {node.text}")

    def _fields(self, node: Node, value: Any, names: Sequence[str]) -> Any:
        for name in names:
            match value:
                case None | NoValue():
                    return NO_VALUE
                case dict():
                    value = value.get(name, NO_VALUE)
                    continue
                case Nil(go_type=kind) if kind.startswith("map["):
                    value = NO_VALUE
                    continue
                case Nil(go_type=kind) if kind.startswith("*"):
                    raise self._fail(node, f"nil pointer evaluating {kind}.{name}")
                case Record():
                    try:
                        value = value.field(name)
                        continue
                    except KeyError:
                        pass
            raise self._fail(node, f"can't evaluate field {name} in type {go_type(value)}")
        return value
