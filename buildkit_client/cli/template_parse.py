"""Reads Go's template language into a tree.

All of the language is read: fields, variables, pipelines, functions, ``if``, ``with``, ``range``, ``break``,
``continue``, ``define``, ``block``, ``template``, comments and trimming. Errors have Go's texts, which scripts and
people know.

Reference: Go, text/template/parse/parse.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_client.cli.go_values import TemplateError, go_quote, go_unquote
from buildkit_client.cli.template_tokens import KEYWORDS, Token, tokens

if TYPE_CHECKING:
    from collections.abc import Collection

_OPERANDS = frozenset({"bool", "dot", "field", "ident", "number", "nil", "string", "char", "variable", "("})


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a template.

    Attributes:
        position: Where it begins, in characters.
        text: How errors show it.
    """

    position: int
    text: str


@dataclass(frozen=True, slots=True)
class Text(Node):
    """What is written out as it is."""


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A text, number or truth value; ``nil`` has None."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Dot(Node):
    """The value at hand."""


@dataclass(frozen=True, slots=True)
class Field(Node):
    """Fields of the value at hand, from the outermost."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """A variable, and fields of it."""

    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function(Node):
    """The name of a function."""


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Fields of what an operand gives."""

    operand: Node
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call(Node):
    """An operand, with arguments where it is a function."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pipeline(Node):
    """Calls, each getting what the one before gave; variables take the last one's."""

    calls: tuple[Call, ...]
    variables: tuple[str, ...] = ()
    is_assignment: bool = False


@dataclass(frozen=True, slots=True)
class Print(Node):
    """Writes what a pipeline gives."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Block(Node):
    """``if``, ``with`` or ``range``, as ``text`` says."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Leave(Node):
    """``break`` or ``continue``, as ``text`` says."""


@dataclass(frozen=True, slots=True)
class Include(Node):
    """Runs another template of a name."""

    name: str
    pipeline: Pipeline | None


@dataclass(slots=True)
class Tree:
    """A template that was read.

    Attributes:
        source: Its text.
        body: Its nodes.
        named: Nodes of the templates defined inside it, by name.
    """

    source: str
    body: tuple[Node, ...] = ()
    named: dict[str, tuple[Node, ...]] = field(default_factory=dict)


def parse_template(source: str, functions: Collection[str]) -> Tree:
    """Read a template.

    Args:
        source: Its text.
        functions: Names that it may call.

    Raises:
        TemplateError: It cannot be read.
    """
    parser = _Parser(source, functions)
    parser.tree.body, _ = parser.nodes(())
    return parser.tree


class _Parser:
    def __init__(self, source: str, functions: Collection[str]) -> None:
        self.tree = Tree(source)
        self._functions = functions
        self._tokens = list(tokens(source))
        self._next = 0
        self._variables = ["$"]
        self._loops = 0

    # -- tokens ------------------------------------------------------------------------------------------------

    def _peek(self, *, skips_space: bool = True) -> Token:
        while skips_space and self._tokens[self._next].kind == "space":
            self._next += 1
        return self._tokens[self._next]

    def _take(self, *, skips_space: bool = True) -> Token:
        token = self._peek(skips_space=skips_space)
        if token.kind != "eof":
            self._next += 1
        return token

    def _fail(self, what: str) -> TemplateError:
        place = self._tokens[min(self._next, len(self._tokens) - 1)].position
        return TemplateError(f"template: :{1 + self.tree.source.count(chr(10), 0, place)}: {what}")

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        return self._fail(token.text if token.kind == "error" else f"unexpected {token} in {context}")

    def _expect(self, kind: str, context: str) -> Token:
        token = self._take()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    # -- nodes -------------------------------------------------------------------------------------------------

    def nodes(self, ends: tuple[str, ...]) -> tuple[tuple[Node, ...], str]:
        """Read up to an ``end`` or ``else`` that closes this block, or to the end; return what it was."""
        found: list[Node] = []
        while True:
            token = self._take(skips_space=False)
            match token.kind:
                case "eof":
                    if ends:
                        raise self._fail("unexpected EOF")
                    return tuple(found), ""
                case "text":
                    found.append(Text(token.position, token.text))
                    continue
                case "error":
                    raise self._fail(token.text)
            keyword = self._peek()
            if keyword.kind not in KEYWORDS:
                found.append(Print(keyword.position, "", self._pipeline("command", "}}")))
                continue
            self._take()
            match keyword.kind:
                case "end" | "else":
                    if keyword.kind == "end" or self._peek().kind not in ("if", "with"):
                        self._expect("}}", keyword.kind)
                    if keyword.kind not in ends:
                        raise self._fail(f"unexpected {{{{{keyword.kind}}}}}")
                    return tuple(found), keyword.kind
                case "define":
                    name = self._name("define clause")
                    self._expect("}}", "define clause")
                    self.tree.named[name] = self._scoped()
                case "if" | "with" | "range":
                    found.append(self._block(keyword))
                case "break" | "continue":
                    self._expect("}}", f"{{{{{keyword.kind}}}}}")
                    if not self._loops:
                        raise self._fail(f"{{{{{keyword.kind}}}}} outside {{{{range}}}}")
                    found.append(Leave(keyword.position, keyword.kind))
                case _:
                    found.append(self._include(keyword))

    def _block(self, keyword: Token) -> Block:
        outer = len(self._variables)
        pipeline = self._pipeline(keyword.kind, "}}")
        self._loops += keyword.kind == "range"
        body, end = self.nodes(("end", "else"))
        self._loops -= keyword.kind == "range"
        otherwise: tuple[Node, ...] = ()
        if end == "else":
            inner = self._peek()
            if inner.kind == keyword.kind != "range":
                self._take()
                otherwise = (self._block(inner),)
            elif inner.kind in ("if", "with") and self._tokens[self._next - 1].kind != "}}":
                raise self._unexpected(inner, "input")
            else:
                otherwise, end = self.nodes(("end", "else"))
                if end != "end":
                    raise self._fail("expected end; found {{else}}")
        del self._variables[outer:]
        return Block(keyword.position, keyword.kind, pipeline, body, otherwise)

    def _include(self, keyword: Token) -> Include:
        context = f"{keyword.kind} clause"
        place = self._peek().position
        name = self._name(context)
        pipeline = None
        if self._peek().kind == "}}" and keyword.kind == "template":
            self._take()
        else:
            pipeline = self._pipeline(context, "}}")
        if keyword.kind == "block":
            self.tree.named[name] = self._scoped()
        return Include(place, f"{{{{template {go_quote(name)}}}}}", name, pipeline)

    def _scoped(self) -> tuple[Node, ...]:
        """Read the body of a named template, which knows no variable from outside."""
        outer, self._variables, loops, self._loops = self._variables, ["$"], self._loops, 0
        body, end = self.nodes(("end", "else"))
        if end != "end":
            raise self._fail("unexpected {{else}} in define clause")
        self._variables, self._loops = outer, loops
        return body

    def _name(self, context: str) -> str:
        token = self._take()
        if token.kind != "string":
            raise self._unexpected(token, context)
        return self._unquoted(token)

    def _unquoted(self, token: Token) -> str:
        try:
            return go_unquote(token.text)
        except ValueError as exc:
            raise self._fail(str(exc)) from exc

    # -- pipelines ---------------------------------------------------------------------------------------------

    def _pipeline(self, context: str, end: str) -> Pipeline:
        start = self._peek()
        variables, is_assignment = self._declarations(context)
        calls: list[Call] = []
        while True:
            token = self._peek()
            if token.kind == end:
                self._take()
                break
            if token.kind not in _OPERANDS:
                self._take()
                raise self._unexpected(token, context)
            calls.append(self._call())
        if not calls:
            raise self._fail(f"missing value for {context}")
        for number, call in enumerate(calls[1:], 2):
            if isinstance(call.operands[0], (Constant, Dot)):
                raise self._fail(f"non executable command in pipeline stage {number}")
        head = f"{', '.join(variables)} {'=' if is_assignment else ':='} " if variables else ""
        text = head + " | ".join(call.text for call in calls)
        return Pipeline(start.position, text, tuple(calls), tuple(variables), is_assignment)

    def _declarations(self, context: str) -> tuple[list[str], bool]:
        variables: list[str] = []
        while self._peek().kind == "variable":
            place = self._next
            name = self._take().text
            after = self._peek()
            if after.kind in ("declare", "assign"):
                self._take()
                self._variables.append(name)
                return [*variables, name], after.kind == "assign"
            if after.text != ",":
                self._next = place
                break
            self._take()
            self._variables.append(name)
            variables.append(name)
            if context != "range" or len(variables) > 1:
                raise self._fail(f"too many declarations in {context}")
            if self._peek().kind not in ("variable", "}}", ")"):
                raise self._fail("range can only initialize variables")
        return variables, False

    def _call(self) -> Call:
        start = self._peek().position
        operands: list[Node] = []
        while True:
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._peek(skips_space=False)
            if token.kind == "space":
                continue
            if token.kind in ("}}", ")"):
                break
            self._take()
            if token.kind != "pipe":
                raise self._unexpected(token, "operand")
            break
        if not operands:
            raise self._fail("empty command")
        text = " ".join(f"({one.text})" if isinstance(one, Pipeline) else one.text for one in operands)
        return Call(start, text, tuple(operands))

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek(skips_space=False).kind != "field":
            return node
        place = self._peek().position
        names: list[str] = []
        while self._peek(skips_space=False).kind == "field":
            names.append(self._take().text[1:])
        text = node.text + "".join(f".{name}" for name in names)
        match node:
            case Field():
                return Field(place, text, (*node.names, *names))
            case Variable():
                return Variable(place, text, node.name, tuple(names))
            case Constant() | Dot():
                raise self._fail(f"unexpected . after term {go_quote(node.text)}")
        return Chain(place, f"({node.text})" + text[len(node.text) :], node, tuple(names))

    def _term(self) -> Node | None:
        token = self._peek()
        if token.kind not in _OPERANDS:
            return None
        self._take()
        place, text = token.position, token.text
        match token.kind:
            case "ident":
                if text not in self._functions:
                    raise self._fail(f"function {go_quote(text)} not defined")
                return Function(place, text)
            case "dot":
                return Dot(place, text)
            case "nil":
                return Constant(place, text, None)
            case "bool":
                return Constant(place, text, text == "true")
            case "variable":
                if text not in self._variables:
                    raise self._fail(f"undefined variable {go_quote(text)}")
                return Variable(place, text, text)
            case "field":
                return Field(place, text, (text[1:],))
            case "string":
                return Constant(place, text, self._unquoted(token))
            case "char":
                return Constant(place, text, ord(self._unquoted(token)))
            case "number":
                return Constant(place, text, _number(text))
        return self._pipeline("parenthesized pipeline", ")")


def _number(text: str) -> int | float:
    digits = text.replace("_", "")
    try:
        return int(digits, 0)
    except ValueError:
        pass
    if digits.lstrip("+-").isdigit():
        return int(digits, 8 if set(digits.lstrip("+-")) <= set("01234567") else 10)
    return float(digits)
