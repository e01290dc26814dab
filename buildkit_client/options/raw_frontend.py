"""What a frontend is, and the one that any command line can describe: a name with attributes.

Apart from the frontends that read Dockerfiles, whose contexts and attestations such a build does not load.

Reference: frontend/dockerui/config.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from buildkit_client.options.known import check_frontend_attrs
from buildkit_client.options.needs import Needs

if TYPE_CHECKING:
    from collections.abc import Mapping


class Frontend(Protocol):
    """What reads the build's description on the daemon.

    Attributes:
        name: ``dockerfile.v0`` or ``gateway.v0``.
    """

    @property
    def name(self) -> str:
        """The frontend's name on the wire."""

    def to_attrs(self) -> dict[str, str]:
        """Return the frontend's attributes as the wire has them."""

    def needs(self) -> Needs:
        """Return what its contexts want served or sent."""


@dataclass(frozen=True, slots=True)
class RawFrontend:
    """A frontend by name, with attributes passed on as they are.

    Attributes:
        name: For example ``gateway.v0``.
        attrs: Every attribute, as ``buildctl --opt`` takes them.
        unchecked: Take frontends and attributes that this library does not know, for daemons that know more.
    """

    name: str
    attrs: Mapping[str, str] = field(default_factory=dict, repr=False)
    unchecked: bool = field(default=False, kw_only=True)

    def to_attrs(self) -> dict[str, str]:
        """Return the attributes unchanged.

        Raises:
            OptionError: The frontend is not known, or an attribute is misspelt.
        """
        if not self.unchecked:
            check_frontend_attrs(self.name, self.attrs)
        return dict(self.attrs)

    def needs(self) -> Needs:
        """Return nothing: whoever writes attributes by hand serves what they name."""
        return Needs()
