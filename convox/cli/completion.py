"""``convox completion bash|zsh|fish``: completion of commands, flags and values in a shell.

The script that a shell sources is the same whatever the line says: on each press of the tab key it runs
``convox __complete SHELL WORDS...`` and hands the line over as arguments, so nothing of it is run or expanded. The
answer is a line with what kind of words they are, see :class:`~convox.cli.completion_values.Proposals`, and then one
line for each: the word, a tab, what it is. Where something goes wrong there is nothing to propose, and never an error.

The words are read more loosely than for a command (:mod:`convox.cli.flags`), as the line is not finished.
"""

import contextlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convox.cli.command import ANYWHERE, Command, Group, command_flags, options_of
from convox.cli.completion_values import Proposals, TypedLine, values_of
from convox.cli.flags import find_command_word
from convox.cli.params import HiddenAppOption, HiddenRackOption, WaitOption
from convox.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from convox.cli.completion_values import Row
    from convox.cli.context import CliContext

_NO_CONTEXT: Any = None  # groups here find their commands without one

app = typer.Typer(name="completion", rich_markup_mode=None, add_completion=False)


@app.command("completion", cls=Command)
def print_script(
    ctx: typer.Context,
    *,
    shell: Annotated[str, typer.Argument(metavar="shell", show_default=False)],
    app: HiddenAppOption = None,  # noqa: ARG001
    rack: HiddenRackOption = None,  # noqa: ARG001
    wait: WaitOption = False,  # noqa: ARG001
) -> None:
    """Print a script that completes convox commands in bash, zsh or fish.

    Commands, flags, and names that are on this machine: apps, builds, releases, racks, registries, parameters. In
    ~/.bashrc: source <(convox completion bash); in ~/.zshrc, after compinit: source <(convox completion zsh); in
    ~/.config/fish/config.fish: convox completion fish | source.
    """
    from convox.errors import UsageError  # noqa: PLC0415  (only where something went wrong)

    script = SCRIPTS.get(shell)
    if script is None:
        raise UsageError(f"unknown shell: {shell}", why="there are completions for bash, zsh and fish")
    cx: CliContext = ctx.obj
    cx.console.write(script.encode())


def answer(words: "Sequence[str]") -> int:
    """Write what a shell can propose, and return the exit code, which is always 0.

    Args:
        words: The shell, then the words after ``convox`` up to the one at the cursor, as they were typed.
    """
    with contextlib.suppress(Exception):  # whatever it is, it must not end up on the line that somebody types
        shell, *typed = words
        found = propose_typed(shell, typed, Settings.load())
        lines = [found.kind, *(f"{word}\t{about}" for word, about in found.rows)]
        sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))
        sys.stdout.buffer.flush()
    return 0


def propose_typed(shell: str, typed: "Sequence[str]", settings: Settings) -> Proposals:
    """Return what could stand at the cursor of a line in a shell.

    Args:
        shell: Its name. bash has parted words at ``=`` and ``:``, and completes the last part alone.
        typed: The words after ``convox`` up to the one at the cursor, with the quotes they were typed in.
        settings: Of this run.
    """
    words = [_unquoted(word) for word in typed] or [""]
    if shell != "bash":
        return propose(words, settings)
    whole, last = _rejoined(words)
    found = propose(whole, settings)
    skipped = len(whole[-1]) - len(last)
    return replace(found, rows=[(word[skipped:], about) for word, about in found.rows])


def propose(words: "Sequence[str]", settings: Settings) -> Proposals:
    """Return what could stand at the cursor.

    Args:
        words: The words after ``convox``, the last one being that at the cursor; it may be empty.
        settings: Of this run.

    Raises:
        Exception: The names of something cannot be read.
    """
    *before, current = words
    line = _read(before, settings)
    if line.open is not None:
        return values_of(line.open.kind, replace(line.typed, current=current)).starting_with(current)
    if current.startswith("-") and not line.is_past_flags:
        name, equals, value = current.partition("=")
        option = line.option(name)
        if not equals:
            return Proposals(list(_flags(line))).starting_with(current)
        if option is None or not option.takes_value:
            return Proposals()
        found = values_of(option.kind, replace(line.typed, current=value)).starting_with(value)
        return replace(found, rows=[(f"{name}={word}", about) for word, about in found.rows])
    rows = list(_commands(line)) if not line.typed.arguments and not line.is_past_flags else []
    kind = _argument_kind(line)
    found = values_of(kind, replace(line.typed, current=current)) if kind else Proposals()
    return replace(found, rows=[*rows, *found.rows]).starting_with(current)


@dataclass(frozen=True, slots=True)
class _Option:
    """A flag, and what the help calls its value."""

    spellings: "Sequence[str]"
    kind: str
    about: str = ""
    takes_value: bool = True
    repeats: bool = False
    is_hidden: bool = False


@dataclass(slots=True)
class _Line:
    """The line up to the cursor: the command, its flags, and a flag whose value comes next."""

    command: Any
    options: "Sequence[_Option]"
    typed: TypedLine
    given: set[_Option]
    open: _Option | None = None
    is_past_flags: bool = False

    def option(self, spelling: str) -> _Option | None:
        """Return the flag that is spelled so."""
        return next((option for option in self.options if spelling in option.spellings), None)


def _read(words: "Sequence[str]", settings: Settings) -> _Line:
    from convox.cli.app import root_group  # noqa: PLC0415  (this module is one of its commands)

    command: Any = root_group()
    path: list[str] = []
    rest = list(words)
    while isinstance(command, Group):
        own = _own(command)
        place = find_command_word(ANYWHERE if own is command else command_flags(own), rest)
        inner = None if place is None else command.get_command(_NO_CONTEXT, rest[place])
        if place is None or inner is None or rest[place] == command.own_command:
            break
        path.append(rest.pop(place))
        command = inner
    line = _Line(command, _options(_own(command)), TypedLine(settings=settings, path=path), set())
    arguments: list[str] = []
    for word in rest:
        if line.open is not None:
            line.typed = _with_value(line.typed, line.open, word)
            line.open = None
        elif line.is_past_flags or word == "-" or not word.startswith("-"):
            arguments.append(word)
        elif word == "--":
            line.is_past_flags = True
        else:
            _read_flag(line, word)
    line.typed = replace(line.typed, arguments=arguments)
    return line


def _read_flag(line: _Line, word: str) -> None:
    name, equals, value = word.partition("=")
    option = line.option(name)
    if option is None and not word.startswith("--"):  # -aweb
        option, equals, value = line.option(word[:2]), "=", word[2:]
    if option is None:
        return
    line.given.add(option)
    if option.takes_value and equals:
        line.typed = _with_value(line.typed, option, value)
    elif option.takes_value:
        line.open = option


def _with_value(typed: TypedLine, option: _Option, value: str) -> TypedLine:
    if "--app" in option.spellings:
        return replace(typed, settings=replace(typed.settings, app_flag=value))
    if "--rack" in option.spellings:
        return replace(typed, settings=replace(typed.settings, rack_flag=value))
    return typed


def _own(command: Any) -> Any:
    """Return the command that runs when the word of a group stands alone; the group itself where it has none."""
    is_group = isinstance(command, Group) and command.own_command
    return command.get_command(None, command.own_command) if is_group else command


def _options(command: Any) -> list[_Option]:
    if isinstance(command, Group):
        return [
            _Option(flag.spellings, flag.name, f"{flag.name} name", flag.takes_value, is_hidden=flag.name == "wait")
            for flag in ANYWHERE
        ]
    return [
        _Option(
            tuple(param.opts),
            param.metavar or "",
            param.help or "",
            takes_value=not param.is_flag,
            repeats=bool(param.multiple),
            is_hidden=bool(param.hidden),
        )
        for param in options_of(command)
    ]


def _flags(line: _Line) -> "Iterable[Row]":
    for option in line.options:
        if not option.is_hidden and (option.repeats or option not in line.given):
            yield next(spelling for spelling in option.spellings if spelling.startswith("--")), option.about
    yield "--help", "show help"
    if not line.typed.path:
        yield "--version", "display version information"


def _commands(line: _Line) -> "Iterable[Row]":
    from convox.cli.help import summaries  # noqa: PLC0415
    from convox.cli.listing import COMMANDS  # noqa: PLC0415

    if line.typed.path:
        return summaries(line.command) if isinstance(line.command, Group) else ()
    about = {name.partition(" ")[2]: text for name, text in COMMANDS}  # importing every command would take too long
    return [(name, about.get(name, "")) for name in line.command.list_commands(_NO_CONTEXT)]


def _argument_kind(line: _Line) -> str:
    """Return what the help calls the argument at the cursor, empty where there can be none."""
    arguments = [param for param in _own(line.command).params if param.param_type_name == "argument"]
    place = len(line.typed.arguments)
    if arguments and arguments[-1].nargs == -1:
        place = min(place, len(arguments) - 1)
    return str(arguments[place].metavar or "").strip("[]") if place < len(arguments) else ""


def _unquoted(word: str) -> str:
    """Return a word without its quotes; the last one may still be open."""
    if not any(char in word for char in "'\"\\"):
        return word
    import shlex  # noqa: PLC0415

    for closing in ("", "'", '"'):
        with contextlib.suppress(ValueError):
            return "".join(shlex.split(word + closing))
    return word


def _rejoined(words: "Sequence[str]") -> tuple[list[str], str]:
    """Put together what bash has parted at ``=`` and ``:``.

    Returns:
        The words; and the part of the last one that bash is going to replace.
    """
    whole: list[str] = []
    joins = False
    for word in words:
        is_separator = bool(word) and not word.strip("=:")
        if whole and word and (joins or is_separator):
            whole[-1] += word
        else:
            whole.append(word)
        joins = is_separator
    return whole, "" if joins else words[-1]


_BASH = """\
# Completion of convox for bash 4.4 and newer. In ~/.bashrc: source <(convox completion bash)
_convox_complete() {
    local line kind=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
        else
            COMPREPLY+=("${line%%$'\\t'*}")
        fi
    done < <(convox __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    case $kind in
        open) compopt -o nospace ;;
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
    esac
}
complete -o nosort -F _convox_complete convox
"""

_ZSH = """\
#compdef convox
# Completion of convox for zsh. In ~/.zshrc, after compinit: source <(convox completion zsh)
_convox() {
    local line kind=
    local -a found shown
    for line in "${(@f)$(convox __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ -z $kind ]]; then
            kind=$line
        else
            found+=("${line%%$'\\t'*}")
            shown+=("${${line/$'\\t'/  -- }%  -- }")
        fi
    done
    case $kind in
        files) compset -P '*='; _files ;;
        folders) compset -P '*='; _files -/ ;;
        open) compadd -V convox -S '' -l -d shown -a found ;;
        *) compadd -V convox -l -d shown -a found ;;
    esac
}
if [[ $funcstack[1] == _convox ]]; then
    _convox "$@"
else
    compdef _convox convox
fi
"""

_FISH = """\
# Completion of convox for fish. In ~/.config/fish/config.fish: convox completion fish | source
function __convox_complete
    set -l current (commandline -ct)
    set -l typed (commandline -opc)
    set -e typed[1]
    set -l found (convox __complete fish $typed "$current" 2>/dev/null)
    switch "$found[1]"
        case files
            __fish_complete_path "$current"
        case folders
            __fish_complete_directories "$current"
        case words open
            set -e found[1]
            string join -- \\n $found
    end
end
complete -c convox -e
complete -c convox -f -a '(__convox_complete)'
"""

SCRIPTS = {"bash": _BASH, "fish": _FISH, "zsh": _ZSH}
"""What ``convox completion`` prints, by shell."""
