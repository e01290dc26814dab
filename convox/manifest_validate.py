"""The checks of a manifest whose messages people know from Convox, each with the line it is about.

Left out are the checks of what only running needs: scale, budget, volumes, security contexts, config mounts and image
pull secrets. The order is Convox's: balancers, resources, services, timers.

Reference: convox/convox pkg/manifest/validate.go.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from convox.manifest_yaml import YamlEntry, YamlList, YamlMap, YamlNode, YamlScalar

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"[a-z][a-z0-9-]*")
"""A name of a service, resource or timer; use with ``fullmatch``."""

NAME_RULE = "must contain only lowercase alphanumeric and dashes"

Problem = tuple[int, str]
"""A line in the file, from 1, and Convox's text."""


def validate(root: YamlMap) -> list[Problem]:
    """Return what is wrong with a manifest; empty when nothing is.

    Args:
        root: The whole manifest, values put in.
    """
    services = {entry.key.value for entry in _entries(root, "services")}
    resources = {entry.key.value for entry in _entries(root, "resources")}
    return [
        *_balancers(root, services),
        *_resources(root),
        *_services(root, resources),
        *_timers(root, services),
    ]


def _entries(parent: YamlMap, key: str) -> tuple[YamlEntry, ...]:
    node = parent.get(key)
    return node.entries if isinstance(node, YamlMap) else ()


def _body(entry: YamlEntry) -> YamlMap:
    return entry.value if isinstance(entry.value, YamlMap) else YamlMap((), entry.key.line)


def _text(parent: YamlMap, key: str) -> str:
    node = parent.get(key)
    return node.value if isinstance(node, YamlScalar) else ""


def _texts(node: YamlNode | None) -> list[YamlScalar]:
    """Return the scalars of a list, or a single one."""
    if isinstance(node, YamlScalar):
        return [node]
    return [item for item in node.items if isinstance(item, YamlScalar)] if isinstance(node, YamlList) else []


def _number(parent: YamlMap, key: str) -> tuple[int, int] | None:
    """Return the line and the value of a whole number, None when there is none."""
    node = parent.get(key)
    if not isinstance(node, YamlScalar) or node.kind != "int":
        return None
    text = node.value.replace("_", "")
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    if re.fullmatch(r"0[0-7]+", digits):  # YAML 1.1's octal
        digits = f"0o{digits}"
    try:
        return node.line, sign * int(digits, 0)
    except ValueError:  # the tag !!int before something else, or thousands of digits
        return None


def _is_true(parent: YamlMap, key: str) -> bool:
    node = parent.get(key)
    return isinstance(node, YamlScalar) and node.kind == "bool" and node.value.lower() in ("y", "yes", "true", "on")


def _balancers(root: YamlMap, services: set[str]) -> Iterator[Problem]:
    for entry in _entries(root, "balancers"):
        name, line, body = entry.key.value, entry.key.line, _body(entry)
        if not _entries(body, "ports"):
            yield line, f"balancer {name} has no ports"
        service = _text(body, "service")
        if not service:
            yield line, f"balancer {name} has blank service"
        elif service not in services:
            yield line, f"balancer {name} refers to unknown service {service}"
        for item in _texts(body.get("whitelist")):
            if not _is_cidr(item.value):
                yield item.line, f"balancer {name} whitelist {item.value} is not a valid cidr range"


def _is_cidr(text: str) -> bool:
    import ipaddress  # noqa: PLC0415  # slow to import and hardly ever needed

    _, slash, bits = text.partition("/")
    if not slash or not bits.isascii() or not bits.isdigit():
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _resources(root: YamlMap) -> Iterator[Problem]:
    for entry in _entries(root, "resources"):
        name, line = entry.key.value, entry.key.line
        if not NAME.fullmatch(name):
            yield line, f"resource name {name} invalid, {NAME_RULE}"
        if not _text(_body(entry), "type").strip():
            yield line, f"resource {json.dumps(name, ensure_ascii=False)} has blank type"


def _services(root: YamlMap, resources: set[str]) -> Iterator[Problem]:
    for entry in _entries(root, "services"):
        name, line, body = entry.key.value, entry.key.line, _body(entry)
        if not NAME.fullmatch(name):
            yield line, f"service name {name} invalid, {NAME_RULE}"
        yield from _deployment(name, body)
        if _is_true(body, "internal") and _is_true(body, "internalRouter"):
            yield line, f"service {name} can not have both internal and internalRouter set as true"
        for item in _texts(body.get("resources")):
            resource = item.value.partition(":")[0]  # NAME or NAME:ENV_NAME
            if resource not in resources:
                yield item.line, f"service {name} references a resource that does not exist: {resource}"


def _deployment(name: str, body: YamlMap) -> Iterator[Problem]:
    node = body.get("deployment")
    if not isinstance(node, YamlMap):
        return
    for key, low, high in (("minimum", 0, 100), ("maximum", 100, 200)):
        found = _number(node, key)
        if found is None:
            continue
        line, value = found
        if value < low:
            yield line, f"service {name} deployment {key} can not be less than {low}"
        if value > high:
            yield line, f"service {name} deployment {key} can not be greater than {high}"


def _timers(root: YamlMap, services: set[str]) -> Iterator[Problem]:
    for entry in _entries(root, "timers"):
        name, line, body = entry.key.value, entry.key.line, _body(entry)
        if not NAME.fullmatch(name):
            yield line, f"timer name {name} invalid, {NAME_RULE}"
        service = _text(body, "service")
        if service not in services:
            yield line, f"timer {name} references a service that does not exist: {service}"
        # Schedules of older apps have a sixth field, and a lone ? where * is meant: both are mended, not refused.
        if any("?" in part for part in _text(body, "schedule").split()[:5] if part != "?"):
            yield line, f"timer {name} invalid, schedule cannot contain ?"
