"""A plan as people read it: one block for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convox.output.console import Console
    from convox.plan_view import ImageView, PlanView


def show_plan(console: Console, plan: PlanView) -> None:
    """Write a plan; notes go to stderr."""
    console.info(_rows(("App", plan.app), ("Rack", plan.rack), ("Manifest", plan.manifest), *_shared(plan)))
    for image in plan.images:
        console.print()
        console.info(_rows(*_image(image)))
    for note in plan.notes:
        console.notice(f"NOTICE: {note}")


def _shared(plan: PlanView) -> list[tuple[str, str]]:
    return [
        ("Ignored", "\n".join(plan.ignore)),
        ("Secrets", ", ".join(plan.secrets)),
        ("SSH", ", ".join(plan.ssh)),
        ("Cache", "" if plan.is_cached else "not used"),
    ]


def _image(image: ImageView) -> list[tuple[str, str]]:
    return [
        ("Services", ", ".join(image.services)),
        ("Image", image.image),
        ("Context", image.context),
        ("Dockerfile", image.dockerfile),
        ("Target", image.target),
        ("Platforms", ", ".join(image.platforms)),
        ("Args", "\n".join(f"{name}={value}" for name, value in image.args.items())),
        ("Pushed to" if image.is_pushed else "Kept as", "\n".join(image.tags)),
        ("Cache from", "\n".join(image.cache_from)),
        ("Cache to", "\n".join(image.cache_to)),
    ]


def _rows(*rows: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the rows that have a value."""
    return [row for row in rows if row[1]]
