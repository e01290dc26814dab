"""The folders that are built: the same bytes every time, from a seed."""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COPY_ALL = "FROM scratch\nCOPY . /\n"
SHARED = ("web", "worker", "cron", "mailer")
"""Services of the app that are built from one folder, each with its own Dockerfile."""
LINES_A_TENTH = 2000
"""Lines of a log that a step prints in a tenth of a second."""
ALONE = ("api", "admin", "search", "docs")
"""Services with a folder of their own."""


def place_of(service: str) -> tuple[str, str]:
    """Return a service's folder in the app, and the name of its Dockerfile there."""
    return ("shared", f"Dockerfile.{service}") if service in SHARED else (service, "Dockerfile")


def random_files(folder: Path, count: int, smallest: int, largest: int, *, per_folder: int = 20) -> None:
    """Make files of random bytes and random sizes."""
    generator = random.Random(1)
    pool = generator.randbytes(2 * largest)
    for number in range(count):
        place = folder / f"d{number // per_folder:05}"
        if number % per_folder == 0:
            place.mkdir(parents=True)
        size, start = generator.randint(smallest, largest), generator.randint(0, largest)
        (place / f"f{number:06}").write_bytes(pool[start : start + size])


def small_files(folder: Path, count: int) -> None:
    """Make files of 1 to 4 KiB, 20 in a folder."""
    random_files(folder, count, 1024, 4096)
    (folder / "Dockerfile").write_text(COPY_ALL)


def middle_files(folder: Path, count: int) -> None:
    """Make files of 256 KiB, 20 in a folder."""
    random_files(folder, count, 256 << 10, 256 << 10)
    (folder / "Dockerfile").write_text(COPY_ALL)


def one_big_file(folder: Path, mib: int) -> None:
    """Make one file of random bytes."""
    generator = random.Random(1)
    with (folder / "big").open("wb") as file:
        for _ in range(0, mib, 16):
            file.write(generator.randbytes(min(16, mib) << 20))
    (folder / "Dockerfile").write_text(COPY_ALL)


def next_to_nothing(folder: Path) -> None:
    """Make three files."""
    for number in range(3):
        (folder / f"f{number}").write_text("same")
    (folder / "Dockerfile").write_text(COPY_ALL)


def sparse_files(folder: Path, size_bytes: int, base_image: str, *, count: int = 16) -> None:
    """Make files that take no room here, in a context that is sent whole and copied nowhere."""
    for number in range(count):
        with (folder / f"f{number:02}").open("wb") as file:
            file.truncate(size_bytes // count)
    (folder / "Dockerfile").write_text(f"FROM {base_image}\nRUN --mount=type=bind,target=/context true\n")


def cached_steps(folder: Path, base_image: str, mib: int) -> None:
    """Make a Dockerfile whose first step leaves bytes for a cache, and whose second one has to have them again."""
    (folder / "Dockerfile").write_text(
        f"FROM {base_image}\nRUN head -c {mib << 20} /dev/urandom > /big\nARG RUN=0\nRUN wc -c /big > /size-$RUN\n"
    )


def log_lines(folder: Path, base_image: str, tenths: int) -> None:
    """Make a Dockerfile with a step that prints numbered lines for so many tenths of a second."""
    lines = f'for (i = 0; i < {LINES_A_TENTH}; i++) print "line " s * {LINES_A_TENTH} + i ": what a compiler says"'
    (folder / "Dockerfile").write_text(
        f"FROM {base_image}\nARG RUN=0\n"
        # The next burst is due a tenth of a second after the last was, however long that took.
        f"RUN t=0; while [ $t -lt {tenths} ]; do awk -v s=$t 'BEGIN {{ {lines} }}' & "
        "sleep 0.1; wait; t=$((t+1)); done\n"
    )


def app(folder: Path, base_image: str, scale: float) -> None:
    """Make an app of eight services: four from one folder of 2,000 sources, four from folders of 200 each."""
    generator = random.Random(1)
    words = ["".join(generator.choices(string.ascii_lowercase, k=generator.randint(2, 9))) for _ in range(2000)]
    text = " ".join(generator.choices(words, k=200_000)).encode()
    for name, count in {"shared": 2000, **dict.fromkeys(ALONE, 200)}.items():
        for number in range(max(1, int(count * scale))):
            place = folder / name / "src" / f"d{number // 20:03}"
            place.mkdir(parents=True, exist_ok=True)
            size, start = generator.randint(500, 16_000), generator.randint(0, len(text) - 16_000)
            (place / f"f{number:04}").write_bytes(text[start : start + size])
        (folder / name / "packages.txt").write_text(f"packages of {name}\n")
    manifest = "services:\n"
    for service in (*SHARED, *ALONE):
        path, dockerfile = place_of(service)
        manifest += f"  {service}:\n    build:\n      path: ./{path}\n      manifest: {dockerfile}\n"
        (folder / path / dockerfile).write_text(
            f"FROM {base_image}\nWORKDIR /app\nCOPY packages.txt .\n"
            "RUN head -c 4000000 /dev/urandom > packages\n"
            "COPY src src\n"
            f"RUN find src -type f | sort | xargs cat | md5sum > built-{service}\n"
            f'ENTRYPOINT ["/bin/sh", "-c", "exec {service}"]\n'
        )
    (folder / "convox.yml").write_text(manifest)


def image_app(folder: Path, base_image: str, mib: int) -> None:
    """Make an app of one service, whose image has four layers of random bytes: real layers hardly compress either."""
    steps = "".join(f"RUN head -c {(mib << 20) // 4} /dev/urandom > /layer{number}\n" for number in range(4))
    (folder / "Dockerfile").write_text(f"FROM {base_image}\n{steps}")
    (folder / "convox.yml").write_text("services:\n  web:\n    build: .\n")


def change_app(folder: Path, number: int) -> None:
    """Change one source of the folder that four services share; every number gives another text of the same size."""
    (folder / "shared" / "src" / "d000" / "f0000").write_text(f"change {number:08}\n")
