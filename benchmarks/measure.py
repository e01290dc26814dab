"""One run of a program, measured: wall time, processor time and peak memory of it and of all that it started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1 << 20
_LIMIT_S = 600.0  # no run takes nearly as long; one that hangs must not hold up the others for ever


class BenchmarkError(Exception):
    """Nothing can be measured: a program failed, or something is missing."""


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    Attributes:
        wall_s: From before the start to after the end.
        cpu_s: User and system time of the client's processes; what the daemon does is not in it.
        peak_mib: The highest resident memory of any single one of them.
        more: Figures that only some rows have, by name, for example ``transfer_s``.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    more: Mapping[str, float] = field(default_factory=dict)

    def then(self, other: Cost) -> Cost:
        """Return the cost of this and, after it, another one."""
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.peak_mib, other.peak_mib),
            {**self.more, **other.more},
        )

    def value(self, metric: str) -> float:
        """Return one figure by its name, those of ``more`` included."""
        match metric:
            case "wall_s":
                return self.wall_s
            case "cpu_s":
                return self.cpu_s
            case "peak_mib":
                return self.peak_mib
        return self.more[metric]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of what is measured: as people run it, and not as this project is developed.

    Python may keep its byte code. The driver of a database server, which the developer's extras install and every start
    would load, is hidden.
    """
    kept = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "BUILDKIT_HOST")
    }
    return {**kept, "PYTHONPATH": str(Path(__file__).parent / "without_extras"), **changes}


def timed(
    words: Sequence[str | Path],
    *,
    environ: Mapping[str, str] | None = None,
    output: Path | None = None,
    cwd: Path | None = None,
) -> Cost:
    """Run a program to its end.

    The kernel counts for a process that ended also those that it waited for. The peak includes what a child was before
    it became another program, so this process has to stay small: it never makes contexts itself.

    Args:
        words: The command.
        environ: Its environment; :func:`environment` by default.
        output: Where its stdout and stderr go; by default stdout is thrown away and stderr kept for error texts.
        cwd: Its folder.

    Raises:
        BenchmarkError: It failed, or did not end within ten minutes.
    """
    log = output or Path(os.devnull)
    with log.open("wb") as file:
        began = time.perf_counter()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file if output else subprocess.PIPE,
            env=environment() if environ is None else environ,
            cwd=cwd,
        )
        limit = threading.Timer(_LIMIT_S, process.kill)
        limit.start()
        text = process.stderr.read() if process.stderr is not None else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        limit.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it once more
    if process.stderr is not None:
        process.stderr.close()
    if wall_s > _LIMIT_S:
        raise BenchmarkError(f"{' '.join(map(str, words))} did not end within {_LIMIT_S:.0f} s")
    if status != 0:
        text = output.read_bytes() if output else text
        raise BenchmarkError(f"{' '.join(map(str, words))} failed:\n{text.decode(errors='replace')[-2000:]}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def ask(words: Sequence[str | Path], *, environ: Mapping[str, str] | None = None) -> str:
    """Run a program that is not measured and return what it prints.

    Raises:
        BenchmarkError: It failed.
    """
    done = subprocess.run(words, capture_output=True, text=True, env=environ, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def in_child(make: Callable[[], None]) -> None:
    """Make files in a process of its own, whose memory does not count for what is started later.

    Raises:
        BenchmarkError: It could not.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            make()
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        raise BenchmarkError("a context could not be made; is there room?")
