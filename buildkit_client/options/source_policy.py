"""Source policies: rules by which the daemon allows, denies or replaces what a build loads.

Of the rules that match a source, the last one decides between allow and deny; a rule that converts is applied at once,
and the new source is judged again.

Reference: sourcepolicy/engine.go; sourcepolicy/pb; cmd/buildctl/build.go, --source-policy-file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal, cast

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client._proto import sourcepolicy_pb2

Action = Literal["allow", "deny", "convert"]
Match = Literal["wildcard", "exact", "regex"]
Condition = Literal["equal", "notequal", "matches"]

POLICY_VERSION: Final = 1

# In the order of their numbers on the wire; the names are those of the wire in lower case.
_ACTIONS: Final = ("allow", "deny", "convert")
_MATCHES: Final = ("wildcard", "exact", "regex")
_CONDITIONS: Final = ("equal", "notequal", "matches")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition for an attribute of a source.

    Attributes:
        key: The attribute's name, for example ``http.checksum``.
        value: What to compare it with; a regular expression of Go for ``matches``.
        condition: How to compare.
    """

    key: str
    value: str
    condition: Condition = "equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRule:
    """What to do with sources that match.

    Attributes:
        action: ``allow``, ``deny`` or ``convert``.
        identifier: Which sources, for example ``docker-image://docker.io/library/alpine:*``.
        match: How the identifier is read: with ``*`` and ``?``, as it is, or as a regular expression of Go.
        constraints: All of them must hold too.
        new_identifier: For ``convert``: what to load instead; may name the match's groups, ``${1}``.
        new_attrs: For ``convert``: attributes to set.
    """

    action: Action
    identifier: str
    match: Match = "wildcard"
    constraints: Sequence[Constraint] = ()
    new_identifier: str = ""
    new_attrs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_word(self.action, _ACTIONS, "action")
        _check_word(self.match, _MATCHES, "match type")
        for constraint in self.constraints:
            _check_word(constraint.condition, _CONDITIONS, "condition")
        if not self.identifier:
            raise OptionError("a rule of a source policy matches nothing", hint="give an identifier, or * for all")
        if self.action == "convert" and not self.new_identifier and not self.new_attrs:
            raise OptionError("a converting rule of a source policy does not say into what")
        if self.action != "convert" and (self.new_identifier or self.new_attrs):
            raise OptionError(f"a rule that says {self.action} replaces nothing", hint="use the action convert")


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Rules, in the order in which they are tried.

    Attributes:
        rules: The rules.
    """

    rules: Sequence[SourceRule] = ()

    @classmethod
    def from_json(cls, text: str | bytes) -> SourcePolicy:
        """Read a policy as ``buildctl --source-policy-file`` takes it.

        Names of actions and match types may be in any case, or their numbers. Unlike ``buildctl``, a field that is not
        known is an error: a policy that is not applied because of a slip protects nobody.

        Raises:
            OptionError: It is no JSON, or no policy.
        """
        try:
            document: object = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise OptionError("the source policy is not JSON", why=str(exc)) from exc
        policy = _object(document, ("version", "rules"), "the source policy")
        version = policy.get("version") or POLICY_VERSION
        if version not in (POLICY_VERSION, str(POLICY_VERSION)):
            raise OptionError(f"source policy version {str(version)[:20]} is not known", why=f"{POLICY_VERSION} is")
        rules = _list(policy.get("rules"), "rules")
        return cls(tuple(_rule(rule, f"rule {number}") for number, rule in enumerate(rules, 1)))

    def to_proto(self) -> sourcepolicy_pb2.Policy:
        """Return the message that a build's request carries."""
        from buildkit_client._proto import sourcepolicy_pb2 as pb  # noqa: PLC0415  # protobuf is slow to import

        policy = pb.Policy(version=POLICY_VERSION)
        for rule in self.rules:
            selector = pb.Selector(identifier=rule.identifier, match_type=rule.match.upper())
            for one in rule.constraints:
                selector.constraints.add(key=one.key, value=one.value, condition=one.condition.upper())
            message = policy.rules.add(action=rule.action.upper(), selector=selector)
            if rule.action == "convert":
                message.updates.identifier = rule.new_identifier
                message.updates.attrs.update(rule.new_attrs)
        return policy


def _rule(value: object, what: str) -> SourceRule:
    rule = _object(value, ("action", "selector", "updates"), what)
    selector = _object(rule.get("selector"), ("identifier", "matchtype", "constraints"), f"the selector of {what}")
    updates = _object(rule.get("updates"), ("identifier", "attrs"), f"the updates of {what}")
    constraints = []
    for item in _list(selector.get("constraints"), f"constraints of {what}"):
        one = _object(item, ("key", "value", "condition"), f"a constraint of {what}")
        condition = cast("Condition", _word(one.get("condition"), _CONDITIONS, f"condition of {what}"))
        constraints.append(Constraint(_text(one.get("key"), what), _text(one.get("value"), what), condition))
    attrs = updates.get("attrs") or {}
    if not isinstance(attrs, dict):
        raise OptionError(f"attrs of {what} is no JSON object")
    try:
        return SourceRule(
            action=cast("Action", _word(rule.get("action"), _ACTIONS, f"action of {what}")),
            identifier=_text(selector.get("identifier"), what),
            match=cast("Match", _word(selector.get("matchtype"), _MATCHES, f"match type of {what}")),
            constraints=tuple(constraints),
            new_identifier=_text(updates.get("identifier"), what),
            new_attrs={key: _text(item, what) for key, item in attrs.items()},
        )
    except OptionError as exc:
        raise OptionError(f"{what} of the source policy cannot work", why=str(exc), hint=exc.hint) from exc


def _object(value: object, known: Sequence[str], what: str) -> dict[str, object]:
    """Return an object's fields by their names in lower case without underscores; null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OptionError(f"{what} is no JSON object")
    fields: dict[str, object] = {}
    for key, item in value.items():
        name = key.replace("_", "").lower()
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise OptionError(f"{what} has an unknown field {key[:100]!r}", hint=hint)
        fields[name] = item
    return fields


def _list(value: object, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise OptionError(f"{what} of the source policy is no JSON list")
    return value


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise OptionError(f"{what} of the source policy has a value that is no text")
    return value


def _word(value: object, known: Sequence[str], what: str) -> str:
    """Return an enum's word; it may be given by its number, and the first is what an absent one means."""
    if value is None:
        return known[0]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(known):
        return known[value]
    if isinstance(value, str) and value.lower() in known:
        return value.lower()
    raise OptionError(f"unknown {what}: {str(value)[:100]!r}", why=f"known are {', '.join(known).upper()}")


def _check_word(word: str, known: Sequence[str], what: str) -> None:
    if word not in known:
        raise OptionError(f"unknown {what} {word!r}", why=f"known are {', '.join(known)}")
