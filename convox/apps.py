"""Apps: their parameters, and taking one away with everything that was kept for it.

Reference: convox/convox provider/k8s/app.go; provider/k8s/build.go; pkg/cli/apps.go.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from convox.errors import StoreError, UsageError
from convox.store.logs import log_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convox.models import App
    from convox.rack import Rack
    from convox.store import Store

ARCHITECTURES = ("amd64", "arm64")

APP_PARAMS: Mapping[str, str] = {
    "BuildArch": "architecture to build for, amd64 or arm64; none: the rack's param platform, else the builder's own",
    "BuildCpu": "processor time of builds in thousandths of a processor (no effect here)",
    "BuildLabels": "labels of the nodes that builds run on, as key=value,key=value (no effect here)",
    "BuildMem": "memory of builds in megabytes (no effect here)",
}
"""What each parameter of an app is about, by name."""

_ALL = 1_000_000
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?=[A-Za-z0-9._-]*")


def view_app_params(app: App) -> list[tuple[str, str]]:
    """Return every parameter of an app with its value, sorted by name; an empty value where it is not set."""
    return sorted({**dict.fromkeys(APP_PARAMS, ""), **app.params}.items())


def parse_app_params(items: Iterable[str]) -> dict[str, str]:
    """Read ``Key=Value`` arguments and check them; an empty value takes a parameter away.

    Raises:
        UsageError: One has no ``=``, names no parameter, or has a value that does not fit.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"Key=Value expected: {item}")
        check_app_param_names([name])
        _check_value(name, value.strip())
        found[name] = value.strip()
    return found


def check_app_param_names(names: Iterable[str]) -> None:
    """Refuse names of parameters that no app has.

    Raises:
        UsageError: There are such names; it lists those that there are.
    """
    unknown = sorted(set(names) - set(APP_PARAMS))
    if unknown:
        raise UsageError(
            f"invalid parameters: {', '.join(unknown)}", hint=f"an app has {', '.join(sorted(APP_PARAMS))}"
        )


def update_app_params(store: Store, name: str, changes: Mapping[str, str]) -> App:
    """Set and clear parameters of an app.

    Args:
        store: Has the app.
        name: The app's name.
        changes: Checked values by name; an empty one clears the parameter.

    Raises:
        NotFoundError: There is no such app.
    """
    params = {**store.get_app(name).params, **changes}
    return store.update_app(name, params={key: value for key, value in params.items() if value})


def build_platforms(store: Store, name: str, rack_platforms: str) -> tuple[str, ...]:
    """Return the platforms an app is built for: that of its own BuildArch, else those of the rack.

    Args:
        store: May have the app.
        name: The app's name; one that is new has no parameters.
        rack_platforms: Value of the rack's param ``platform``.

    Returns:
        For example ``("linux/arm64",)``; empty for the builder's own.
    """
    app = next((one for one in store.list_apps() if one.name == name), None)
    if app is not None and (architecture := app.params.get("BuildArch")):
        return (f"linux/{architecture}",)
    return tuple(part for part in rack_platforms.split(",") if part)


def delete_app(store: Store, rack: Rack, name: str) -> bool:
    """Take an app away: its records, the logs of its builds, and its images as far as they are on this machine.

    Args:
        store: The rack's records.
        rack: Says where the images are.
        name: The app's name.

    Returns:
        Whether no image of it is left; False where some are in a registry, most of which let nobody delete.

    Raises:
        NotFoundError: There is no such app.
        BuildInUseError: A build of it has not ended.
        StoreError: Its logs cannot be removed; the records are gone then.
        BuildKitError: Its images cannot be removed; the records are gone then.
    """
    from convox.images import image_store, stored_images  # noqa: PLC0415 (not needed by every command)

    builds = store.list_builds(name, limit=_ALL)
    store.delete_app(name)
    logs = log_path(store.logs_dir, name, "any").parent
    try:
        shutil.rmtree(logs)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise StoreError(f"cannot remove the logs in {logs}", why=exc.strerror or str(exc)) from exc
    removed = [stored_images(rack, build).remove(build.id) for build in builds if build.images]
    image_store(rack, name).prune(None)
    return all(removed)


def _check_value(name: str, value: str) -> None:
    if not value:
        return
    if name == "BuildArch" and value not in ARCHITECTURES:
        raise UsageError(f"invalid BuildArch: {value}, must be amd64 or arm64")
    if name in ("BuildCpu", "BuildMem") and not re.fullmatch(r"[0-9]{1,9}", value):
        raise UsageError(f"invalid {name}: {value}, must be a number")
    if name == "BuildLabels" and not all(_LABEL.fullmatch(part) for part in value.split(",")):
        raise UsageError(f"invalid BuildLabels: {value}, must be key=value,key=value")
