"""The console: what a command writes, to which stream, and in which colours.

Text for people and bytes of build logs go out in the order in which they were written, each at once. Colours are SGR
sequences of the 256-colour palette with Convox's numbers, and only where the stream is a terminal. With ``--id`` people
read on stderr, and stdout carries nothing but the id.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO, TextIO

from convox.errors import ConvoxError
from convox.output.tables import CONTROLS, info_rows, one_line, table_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

COLOURS: dict[str, int] = {
    "app": 39,
    "build": 23,
    "h1": 244,
    "h2": 241,
    "id": 247,
    "info": 247,
    "ok": 46,
    "rack": 26,
    "release": 24,
    "service": 33,
    "value": 251,
}
"""Number in the 256-colour palette by what is shown, as in Convox's cli.go and stdcli's writer.go."""


class Step:
    """A step that is under way; see :meth:`Console.step`."""

    def __init__(self) -> None:
        self.id = ""

    def done(self, record_id: str) -> None:
        """Say which record the step made: its line will end in ``OK, <id>``."""
        self.id = record_id


class Console:
    """Writes to stdout and stderr for one command, from any thread.

    Args:
        stdout: Where results go.
        stderr: Where errors and notices go.
        color: True or False for both streams; None colours each that is a terminal.
        id_only: Whether people read on stderr and stdout carries nothing but an id (``--id``).

    Every method that writes raises ``BrokenPipeError`` when nobody reads any more, and
    :class:`~convox.errors.ConvoxError` when the stream cannot be written for another reason.
    """

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO, *, color: bool | None = None, id_only: bool = False) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.id_only = id_only
        self._color = color
        self._lock = threading.Lock()

    @classmethod
    def for_process(cls, *, color: bool | None = None) -> Console:
        """Return the console of this process; a stream that was closed before the start swallows what it gets."""
        return cls(_binary(sys.stdout), _binary(sys.stderr), color=color)

    @property
    def people(self) -> BinaryIO:
        """The stream that people read: stdout, or stderr with ``--id``."""
        return self.stderr if self.id_only else self.stdout

    @property
    def is_terminal(self) -> bool:
        """Whether people read on a terminal."""
        return _is_terminal(self.people)

    @property
    def has_color(self) -> bool:
        """Whether what people read is coloured."""
        return _is_terminal(self.people) if self._color is None else self._color

    def paint(self, text: str, style: str) -> str:
        """Return a text in the colour of :data:`COLOURS`, or as it is where there are no colours."""
        return f"\x1b[38;5;{COLOURS[style]}m{text}\x1b[0m" if self.has_color and text else text

    def print(self, text: str = "") -> None:
        """Write a line for people."""
        self._put(self.people, text + "\n")

    def write(self, data: bytes) -> None:
        """Write bytes for people, unchanged: a build log is shown as it is."""
        self._put(self.people, data)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show a step: ``<text>... `` before the block runs, ``OK`` or ``OK, <id>`` after it.

        When the block raises, the line stays unfinished, and the error follows on stderr.

        Reference: convox/stdcli context.go, Startf and OK.
        """
        self._put(self.people, f"{text}... ")
        step = Step()
        yield step
        end = self.paint("OK", "ok") + (f", {self.paint(step.id, 'id')}" if step.id else "")
        self._put(self.people, end + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table; see :func:`~convox.output.tables.table_lines`."""
        header, *lines = table_lines(columns, rows)
        painted = [self.paint(header, "h1"), *(self.paint(line, "value") for line in lines)]
        self._put(self.people, "".join(f"{line}\n" for line in painted))

    def info(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write an info block; see :func:`~convox.output.tables.info_rows`."""
        lines = (f"{self.paint(header, 'h1')}  {self.paint(value, 'value')}\n" for header, value in info_rows(rows))
        self._put(self.people, "".join(lines))

    def json(self, value: object) -> None:
        """Write a value as JSON, indented, on stdout; what a terminal would act on is escaped."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        self._put(self.stdout, CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")

    def print_id(self, record_id: str) -> None:
        """Write an id on stdout, without a line end."""
        self._put(self.stdout, record_id)

    def notice(self, text: str) -> None:
        """Write a line on stderr: something that people should know, and that is no part of the result."""
        self._put(self.stderr, one_line(text) + "\n")

    def error(self, exc: BaseException, *, debug: bool = False, secrets: Sequence[str] = ()) -> None:
        """Write an error on stderr; see :func:`~convox.output.errors.render_error`."""
        from convox.output.errors import render_error  # noqa: PLC0415  (only where something went wrong)

        color = _is_terminal(self.stderr) if self._color is None else self._color
        self._put(self.stderr, render_error(exc, color=color, debug=debug, secrets=secrets))

    def clear(self) -> None:
        """Clear the screen, where there is one."""
        if self.is_terminal:
            self._put(self.people, "\x1b[H\x1b[2J\x1b[3J")

    def silence(self) -> None:
        """Send what was not written yet, and all that follows, nowhere: nobody reads any more.

        Without this the interpreter would try once more at its end, and complain.
        """
        with contextlib.suppress(OSError), open(os.devnull, "wb") as devnull:  # noqa: PTH123  (a name, not a path)
            for stream in (self.stdout, self.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
                    continue
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(devnull.fileno(), stream.fileno())

    def _put(self, stream: BinaryIO, data: str | bytes) -> None:
        if isinstance(data, str):
            data = _encode(data)
        with self._lock:
            try:
                stream.write(data)
                stream.flush()
            except BrokenPipeError:
                raise
            except OSError as exc:
                raise ConvoxError("cannot write the output", why=exc.strerror or str(exc)) from exc


class _Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        return memoryview(data).nbytes


def _binary(stream: TextIO | None) -> BinaryIO:
    # None where the descriptor was closed before the interpreter began.
    return io.BufferedWriter(_Nowhere()) if stream is None else stream.buffer


def _is_terminal(stream: BinaryIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # it was closed
        return False


def _encode(text: str) -> bytes:
    """Return text as UTF-8; a file name that is not UTF-8 gets its own bytes back."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
