"""Completion of commands and flags in a shell, with ``buildctl``'s words.

``completion bash|zsh|fish`` prints what a shell sources. On each press of the tab key that runs the line as far as it
goes with ``--generate-shell-completion`` behind it, and gets a line ``word:what it is`` for each word that could come
next. Unlike with the reference, the line is handed over as arguments and never as text that a shell reads again, and a
``--`` on it runs nothing.

Reference: github.com/urfave/cli/v3, completion.go; help.go, DefaultCompleteWithFlags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.cli.console import EXIT_OK, write_out
from buildkit_client.cli.help import HELP, HELP_COMMAND, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildkit_client.cli.flags import Command, Flag, Invocation


def run_bash(_: Invocation) -> int:
    """Print the script for bash."""
    write_out(_BASH)
    return EXIT_OK


def run_fish(_: Invocation) -> int:
    """Print the script for fish."""
    write_out(_FISH)
    return EXIT_OK


def run_zsh(_: Invocation) -> int:
    """Print the script for zsh."""
    write_out(_ZSH)
    return EXIT_OK


def proposals(root: Command, words: Sequence[str]) -> str:
    """Return what could come next, a line for each word.

    Args:
        root: The outermost command.
        words: The words after the program's name; the one at the cursor is among them when it begins with a dash.
    """
    path = [root]
    known = {name: flag for flag in root.flags for name in flag.names}
    has_arguments = False
    before = iter(words[:-1] if words and words[-1].startswith("-") else words)
    for word in before:
        if word == "--":
            return ""
        if word.startswith("-"):
            name, equals, _ = word.lstrip("-").partition("=")
            flag = known.get(name)
            if flag is not None and flag.kind != "bool" and not equals and next(before, None) is None:
                return ""  # its value comes next
        elif not has_arguments:
            inner = path[-1].find(word)
            if inner is None:
                has_arguments = True
            else:
                path.append(inner)
                known.update({name: flag for flag in inner.flags for name in flag.names})
    if words and words[-1].startswith("-"):
        return "".join(f"{name}:{flag.usage}\n" for name, flag in _flags(path, words[-1]))
    shown = [one for one in path[-1].commands if not one.is_hidden]
    listed = [*shown, HELP_COMMAND] if shown and not has_arguments else []
    return "".join(f"{one.name}:{one.usage}\n" for one in listed)


def _flags(path: Sequence[Command], typed: str) -> Iterator[tuple[str, Flag]]:
    begun = typed.lstrip("-")
    for flag in (*path[-1].flags, HELP, *([VERSION] if len(path) == 1 else [])):
        if flag.name.startswith(begun) and flag.name != begun:
            yield f"--{flag.name}", flag


_BASH = """\
# Completion of buildkit-client for bash. In ~/.bashrc: source <(buildkit-client completion bash)
_buildkit_client_complete() {
    local line current=${COMP_WORDS[COMP_CWORD]}
    local -a typed=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
    if [[ $current == -* ]]; then
        typed+=("$current")
    fi
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%:*}
        if [[ $line == "$current"* ]]; then
            COMPREPLY+=("$line")
        fi
    done < <(buildkit-client "${typed[@]}" --generate-shell-completion 2>/dev/null)
}
complete -o bashdefault -o default -F _buildkit_client_complete buildkit-client
"""

_ZSH = """\
#compdef buildkit-client
# Completion of buildkit-client for zsh. In ~/.zshrc, after compinit: source <(buildkit-client completion zsh)
_buildkit_client() {
    local line
    local -a typed found
    typed=("${(@)words[2,CURRENT-1]}")
    if [[ $words[CURRENT] == -* ]]; then
        typed+=("$words[CURRENT]")
    fi
    for line in "${(@f)$(buildkit-client "${typed[@]}" --generate-shell-completion 2>/dev/null)}"; do
        if [[ -n $line ]]; then
            found+=("$line")
        fi
    done
    if (( $#found )); then
        _describe buildkit-client found
    else
        _files
    fi
}
if [[ $funcstack[1] == _buildkit_client ]]; then
    _buildkit_client "$@"
else
    compdef _buildkit_client buildkit-client
fi
"""

_FISH = """\
# Completion of buildkit-client for fish. In ~/.config/fish/config.fish: buildkit-client completion fish | source
function __buildkit_client_complete
    set -l typed (commandline -opc)
    set -e typed[1]
    set -l current (commandline -ct)
    if string match -q -- '-*' "$current"
        set -a typed "$current"
    end
    buildkit-client $typed --generate-shell-completion 2>/dev/null | string replace : \\t
end
complete -c buildkit-client -e
complete -c buildkit-client -a '(__buildkit_client_complete)'
"""
