"""What a state says about the steps that run on it: environment, directory, user and so on.

None of it is in the file tree; each operation that cares takes what the state has when it is made.

Reference: client/llb/meta.go; client/llb/state.go, WithImageConfig.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from buildkit_client.errors import ImageFormatError, OptionError
from buildkit_client.llb import go_path
from buildkit_client.oci.descriptor import Platform
from buildkit_client.oci.json_document import as_object, get_string, get_strings, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from buildkit_client.llb.exec import Network, Security


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """The values of one state; never changes.

    Attributes:
        env: Names and values, in the order in which they were last set.
        dir: The working directory, absolute.
        args: The command of a step.
        user: Name or number, with ``:group`` where there is one; empty for root.
        hostname: Empty for BuildKit's own.
        network: See :data:`buildkit_client.llb.Network`.
        security: See :data:`buildkit_client.llb.Security`.
        platform: Or None, then ``marshal`` decides.
        extra_hosts: Names and addresses for ``/etc/hosts``.
        ulimits: Names with soft and hard limits.
        cgroup_parent: Empty for BuildKit's own.
        valid_exit_codes: Empty for only 0.
    """

    env: tuple[tuple[str, str], ...] = ()
    dir: str = "/"
    args: tuple[str, ...] = ()
    user: str = ""
    hostname: str = ""
    network: Network = "sandbox"
    security: Security = "sandbox"
    platform: Platform | None = None
    extra_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    cgroup_parent: str = ""
    valid_exit_codes: tuple[int, ...] = ()

    def with_env(self, variables: Mapping[str, str]) -> Self:
        """Set variables; one that was set before moves to the end, as in Go.

        Raises:
            OptionError: A name is empty or has a ``=``.
        """
        env = dict(self.env)
        for name, value in variables.items():
            if not name or "=" in name:
                raise OptionError(f"not a name of an environment variable: {name!a}", why="it is empty or has a =")
            env.pop(name, None)
            env[name] = value
        return replace(self, env=tuple(env.items()))

    def with_dir(self, path: str) -> Self:
        """Go to a directory; a relative path starts at the present one."""
        return replace(self, dir=path if path.startswith("/") else go_path.join(self.dir, path))

    def with_extra_host(self, host: str, address: str) -> Self:
        """Add a line to ``/etc/hosts``.

        Raises:
            OptionError: The address is no IP address.
        """
        try:
            parsed = ip_address(address)
        except ValueError as exc:
            raise OptionError(f"not an IP address: {address!a}", why=f"it is for the host {host!a}") from exc
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return replace(self, extra_hosts=(*self.extra_hosts, (host, str(parsed))))

    def with_platform(self, platform: Platform | None) -> Self:
        """Run on a platform, brought to its usual spelling; None changes nothing."""
        return self if platform is None else replace(self, platform=platform.normalized())

    def with_image_config(self, config: bytes | str | Mapping[str, object]) -> Self:
        """Take environment, working directory and platform from an image's config.

        Args:
            config: The JSON of the image config blob, or what it says.

        Raises:
            OptionError: It is no image config.

        Reference: client/llb/state.go, State.WithImageConfig.
        """
        what = "the image config"
        try:
            data = config.encode() if isinstance(config, str) else config
            document = parse_object(data, what) if isinstance(data, bytes) else as_object(dict(data), what)
            inner = as_object(document.get("config") or {}, f"the field config of {what}")
            result = self
            for variable in get_strings(inner, "Env", what):
                name, _, value = variable.partition("=")
                result = result.with_env({name: value}) if name else result
            result = result.with_dir(get_string(inner, "WorkingDir", what))
            if document.get("architecture") and document.get("os"):
                result = result.with_platform(Platform.from_json(document))
        except (ValueError, TypeError, ImageFormatError) as exc:
            why = f"{exc}: {exc.why}" if isinstance(exc, ImageFormatError) and exc.why else str(exc)
            raise OptionError(
                "not an image config", why=why, hint="it is the JSON blob that an image manifest calls config"
            ) from exc
        return result
