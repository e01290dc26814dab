"""Large contexts go through, and the client stays small: 50,000 files, and one file of a gibibyte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.own_buildkitd import OwnBuildkitd

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")
MAX_RSS_BYTES = 100_000_000

CLIENT = """
import json, sys, time
from pathlib import Path
from buildkit_client import Client, DockerfileFrontend
address, folder = sys.argv[1:]
peaks = []
with Client(address) as client:
    for _ in range(2):
        begun = time.monotonic()
        with client.open_session(local_dirs={"context": folder, "dockerfile": folder}) as session:
            client.solve(DockerfileFrontend(), session=session)
            done = [stats for stats in session._attachments._files.transfers if stats.name == "context"]
            last = max(done, key=lambda stats: stats.entries)
        peaks.append([time.monotonic() - begun, last.entries, last.files, last.content_bytes])
# Not getrusage: that starts with the peak of the process we were forked from.
status = Path("/proc/self/status").read_text().split()
print(json.dumps({"runs": peaks, "peak_bytes": int(status[status.index("VmHWM:") + 1]) * 1024}))
"""


@pytest.fixture
def place(tmp_path):
    """A folder in memory where there is room, else on disk."""
    if not SHM.is_dir() or shutil.disk_usage(SHM).free < 6 << 30:
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=SHM))
    yield folder
    shutil.rmtree(folder)


def run(services, place, folder):
    """Build a folder twice in a process of its own; return what each run moved."""
    with OwnBuildkitd(services, place) as daemon:
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, daemon.address, folder],
            capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    seconds = " and ".join(f"{took_s:.1f} s" for took_s, *_ in seen["runs"])
    print(f"built in {seconds}; the client's memory peaked at {seen['peak_bytes'] / 1e6:.0f} MB")
    assert seen["peak_bytes"] < MAX_RSS_BYTES
    return [tuple(moved) for _, *moved in seen["runs"]]


def test_fifty_thousand_files(services, place):
    folder = place / "context"
    folder.mkdir()
    total = 0
    block = os.urandom(4096)
    for number in range(50_000):
        if number % 100 == 0:
            (folder / f"d{number // 100:03}").mkdir()
        size = 1024 + number * 7919 % 3073
        total += size
        (folder / f"d{number // 100:03}/f{number:05}").write_bytes(block[:size])
    # The context is mounted, not copied: every file must be there, with all of its bytes.
    count = "find /context -type f | wc -l"
    size = "find /context -type f -exec cat {} + | wc -c"
    dockerfile = (
        f"FROM {services.base_image}\n"
        "RUN --mount=type=bind,target=/context "
        f'echo "$({count}) $({size})" > /seen && cat /seen && test "$(cat /seen)" = "@"\n'
    )
    dockerfile = dockerfile.replace("@", f"50001 {total + len(dockerfile) + len(f'50001 {total}') - 1}")
    (folder / "Dockerfile").write_text(dockerfile)
    total += len(dockerfile)
    assert f"50001 {total}" in dockerfile
    first, second = run(services, place, folder)
    assert first == (50_501, 50_001, total)
    assert second == (50_501, 0, 0)


def test_one_file_of_a_gibibyte(services, place):
    """Sparse on our side and full of zeros on the wire, with something at the end that must arrive."""
    folder = place / "context"
    folder.mkdir()
    size = 1 << 30
    with (folder / "big").open("wb") as out:
        out.truncate(size - 5)
        out.seek(size - 5)
        out.write(b"hello")
    digest = hashlib.sha256()
    for _ in range(1023):
        digest.update(bytes(1 << 20))
    digest.update(bytes((1 << 20) - 5) + b"hello")
    (folder / "Dockerfile").write_text(
        f"FROM {services.base_image}\n"
        "RUN --mount=type=bind,target=/context "
        f"echo '{digest.hexdigest()}  /context/big' | sha256sum -c\n"
    )
    (first, second) = run(services, place, folder)
    assert first[2] == size + (folder / "Dockerfile").stat().st_size
    assert second == (first[0], 0, 0)
