"""Where a git repository is: the one id that all spellings of its address share, and the address git gets.

Reference: util/gitutil/git_url.go, ParseURL; util/sshutil/scpurl.go; client/llb/source.go, Git.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from buildkit_client.errors import OptionError
from buildkit_client.llb import go_path

_SCHEME = re.compile(r"[a-zA-Z0-9]+(?=://)", re.ASCII)
_SCP = re.compile(r"([a-zA-Z0-9_-]+)@([a-zA-Z0-9.-]+):([^?#\n]*)", re.ASCII)
_HOST = re.compile(r"(?:[^:\[\]]+|\[[^\[\]]+\])(?::[0-9]*)?", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9!$&'()*+,;=:@/%._~\[\]-]*", re.ASCII)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_SCHEMES = ("http", "https", "ssh", "git")
_HINT = "for example https://github.com/moby/buildkit.git or git@github.com:moby/buildkit.git"


@dataclass(frozen=True, slots=True)
class GitUrl:
    """The address of a repository.

    Attributes:
        scheme: ``http``, ``https``, ``ssh`` or ``git``.
        host: With port where it has one.
        path: In its plain spelling, without ``%20`` and such.
        remote: What git gets; not shown, for it may hold a login.
    """

    scheme: str
    host: str
    path: str
    remote: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> GitUrl:
        """Read an address; one without scheme and user is ``https``.

        Raises:
            OptionError: It is none; no part of it is shown, for it may hold a password.
        """
        scp = _SCP.fullmatch(text)
        if scp is not None:
            user, host, path = scp.groups()
            return cls("ssh", host, path, f"{user}@{host}:{path}")
        found = _SCHEME.match(text)
        scheme = found.group().lower() if found else "https"
        rest = text[found.end() :] if found else f"://{text}"
        if scheme not in _SCHEMES:
            raise OptionError(
                "not the address of a git repository", why=f"the scheme {scheme} is not known", hint=_HINT
            )
        if "#" in rest or "?" in rest:
            raise OptionError(
                "the address of a git repository has a # or a ?",
                why="branch and folder are not part of it here",
                hint="git(address, ref=..., subdir=...)",
            )
        if not _PLAIN.fullmatch(rest) or _PERCENT.search(rest):
            raise OptionError(
                "the address of a git repository has a character that cannot stand in one",
                hint="write it as % and two hex digits",
            )
        try:
            parts = urlsplit(f"{scheme}{rest}")
        except ValueError as exc:
            raise OptionError("not the address of a git repository", why=str(exc), hint=_HINT) from exc
        login, at, host = parts.netloc.rpartition("@")
        if not _HOST.fullmatch(host):
            raise OptionError("not the address of a git repository", why="it has no proper host", hint=_HINT)
        user, colon, password = login.partition(":")
        login = _login_part(user) + colon + _login_part(password) + at
        return cls(scheme, host, unquote(parts.path), f"{scheme}://{login}{host}{parts.path}")

    def id(self, ref: str, subdir: str) -> str:
        """Return what names the repository whatever the protocol, with branch and folder.

        Args:
            ref: Branch, tag or commit; may be empty.
            subdir: Folder; may be empty.
        """
        text = self.host + go_path.join("/", self.path)
        if ref or subdir:
            text += f"#{ref}"
        return f"{text}:{subdir}" if subdir else text


def _login_part(text: str) -> str:
    return quote(unquote(text), safe="$&+,;=")
