"""Blobs on disk, each under its digest; written under a temporary name and renamed when the digest is right.

Several processes may work on one store at once. A blob never changes after it got its name, two writers of one digest
produce the same file, and an unfinished one lies in ``ingest/``, where nothing looks for blobs.

Reference: OCI image-spec, image-layout.md, "Blobs".
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Self

from buildkit_client.errors import BlobNotFoundError, DigestMismatchError, LayoutError
from buildkit_client.oci.digest import Digest, Hash, is_digest, new_hash, read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from buildkit_client.oci.descriptor import Descriptor

BLOBS_DIR = "blobs"
INGEST_DIR = "ingest"
LEFTOVER_AGE_S = 24 * 3600
"""After so many seconds without a write a temporary file is taken for a killed writer's."""

_PART_SUFFIX = ".part"
_DIR_MODE = 0o755
_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob that is there.

    Attributes:
        digest: Its name.
        size_bytes: Its length.
        mod_time_ns: When it was written or last kept, nanoseconds since 1970.
    """

    digest: Digest
    size_bytes: int
    mod_time_ns: int


class BlobStore:
    """Blobs in ``<path>/blobs/<algorithm>/<hex>``; the blob half of an image layout.

    Args:
        path: The folder that holds ``blobs``; it must exist before a blob is written.
        durable: Whether a blob is on the disk itself before it gets its name (fsync).

    Attributes:
        path: As given.
        durable: As given.
        ingest_path: Where temporary files go: on the file system of ``path``; ``ingest`` there unless set.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self.durable = durable
        self.ingest_path = path / INGEST_DIR

    def blob_path(self, digest: Digest) -> Path:
        """Return where a blob lies or would lie."""
        return self.path / BLOBS_DIR / digest.algorithm / digest.hex

    def has_blob(self, digest: Digest, size_bytes: int | None = None) -> bool:
        """Whether the blob is there, and has that size if one is given."""
        info = self._find(digest)
        return info is not None and size_bytes in (None, info.size_bytes)

    def keep_blob(self, digest: Digest, size_bytes: int | None = None) -> bool:
        """Whether the blob is there; if so it counts as new, so that a prune in between leaves it alone."""
        if not self.has_blob(digest, size_bytes):
            return False
        try:
            os.utime(self.blob_path(digest))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # a store we may only read has no prune to fear
        return True

    def blob_info(self, digest: Digest) -> BlobInfo:
        """Return what is known about a blob.

        Raises:
            BlobNotFoundError: It is not there.
        """
        info = self._find(digest)
        if info is None:
            self._refuse_missing(digest)
        return info

    def blob_size(self, digest: Digest) -> int:
        """Return a blob's length in bytes.

        Raises:
            BlobNotFoundError: It is not there.
        """
        return self.blob_info(digest).size_bytes

    def check_size(self, descriptor: Descriptor) -> None:
        """Compare a blob's length with what its descriptor says.

        Raises:
            BlobNotFoundError: It is not there.
            LayoutError: It has another length.
        """
        actual = self.blob_size(descriptor.digest)
        if actual != descriptor.size_bytes:
            self._refuse_size(descriptor.digest, actual, descriptor.size_bytes)

    def open_blob(self, digest: Digest, offset: int = 0) -> BinaryIO:
        """Open a blob for reading; its digest is not checked.

        Args:
            digest: The blob.
            offset: Where to start, in bytes.

        Raises:
            BlobNotFoundError: It is not there.
            LayoutError: It cannot be read, or is no regular file.
        """
        try:
            # A pipe in place of a blob must not make us wait for its writer.
            descriptor = os.open(self.blob_path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            self._refuse_missing(digest)
        except OSError as exc:
            raise LayoutError(f"cannot read blob {digest} in {self.path}", why=exc.strerror or "") from exc
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise LayoutError(f"blob {digest} in {self.path} is no regular file")
        stream = os.fdopen(descriptor, "rb")
        if offset:
            stream.seek(offset)
        return stream

    def read_blob(self, digest: Digest, size_bytes: int | None = None) -> Iterator[bytes]:
        """Yield a blob's bytes in chunks of at most 1 MiB, and check the digest at the end.

        Args:
            digest: The blob.
            size_bytes: What its descriptor says; None skips that check.

        Raises:
            BlobNotFoundError: It is not there.
            LayoutError: Size or digest are not the ones expected; raised after the bytes that could be read.
        """
        hasher = digest.new_hash()
        seen = 0
        with self.open_blob(digest) as stream, os_errors_as_layout_errors(f"cannot read blob {digest} in {self.path}"):
            actual = os.fstat(stream.fileno()).st_size
            if size_bytes is not None and actual != size_bytes:
                self._refuse_size(digest, actual, size_bytes)
            for chunk in read_chunks(stream):
                hasher.update(chunk)
                seen += len(chunk)
                yield chunk
        found = Digest.from_hash(hasher)
        if found != digest:
            raise LayoutError(f"blob {digest} in {self.path} is damaged", why=f"its bytes have the digest {found}")

    def read_small_blob(self, digest: Digest, size_bytes: int | None = None, *, limit: int) -> bytes:
        """Return a whole blob, checked.

        Args:
            digest: The blob.
            size_bytes: What its descriptor says; None skips that check.
            limit: The most bytes that are read into memory.

        Raises:
            BlobNotFoundError: It is not there.
            LayoutError: It is larger than the limit, or damaged.
        """
        actual = self.blob_size(digest)
        if actual > limit:
            raise LayoutError(f"blob {digest} in {self.path} is too large", why=f"{actual} bytes; the limit is {limit}")
        return b"".join(self.read_blob(digest, size_bytes))

    def begin_blob(
        self, expected: Digest | None = None, size_bytes: int | None = None, *, resume: bool = False
    ) -> BlobWriter:
        """Start writing a blob.

        Args:
            expected: The digest that the bytes must have, or None to take the one they have.
            size_bytes: The length that they must have, or None.
            resume: Whether to go on where an earlier writer of the expected digest stopped, and to leave what was
                written for a later one when this one stops; see :attr:`BlobWriter.size_bytes`. Of two writers at one
                time one starts from the beginning.

        Raises:
            LayoutError: Nothing can be written here.
        """
        return BlobWriter(self, expected, size_bytes, resume=resume)

    def put_blob(self, data: bytes, algorithm: str = "sha256") -> Digest:
        """Store bytes from memory and return their digest.

        Raises:
            LayoutError: They cannot be written.
        """
        digest = Digest.of(data, algorithm)
        if not self.keep_blob(digest, len(data)):
            with self.begin_blob(digest, len(data)) as writer:
                writer.write(data)
                writer.commit()
        return digest

    def delete_blob(self, digest: Digest) -> bool:
        """Delete a blob; return whether it was there.

        Raises:
            LayoutError: It cannot be deleted.
        """
        try:
            self.blob_path(digest).unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise LayoutError(f"cannot delete blob {digest} in {self.path}", why=exc.strerror or "") from exc
        return True

    def delete_blob_unused_since(self, digest: Digest, mod_time_ns: int) -> bool:
        """Delete a blob unless someone wrote or kept it after a moment; return whether it was deleted.

        The file is moved aside first: a writer that kept it before that shows in its time, and one that comes
        later finds it missing and writes it again. Either way nobody loses a blob that was promised.

        Raises:
            LayoutError: The store cannot be written.
        """
        path = self.blob_path(digest)
        aside = self.new_part_path()
        with os_errors_as_layout_errors(f"cannot delete blob {digest} in {self.path}"):
            try:
                path.rename(aside)
            except FileNotFoundError:
                return False
            if aside.stat().st_mtime_ns > mod_time_ns:
                aside.rename(path)
                return False
            aside.unlink()
        return True

    def blobs(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no order; files with other names are passed over."""
        for algorithm in ("sha256", "sha512"):
            try:
                names = sorted(os.listdir(self.path / BLOBS_DIR / algorithm))  # noqa: PTH208  # no Path for each blob
            except FileNotFoundError:
                continue
            for name in names:
                text = f"{algorithm}:{name}"
                info = self._find(Digest(text)) if is_digest(text) else None
                if info is not None:
                    yield info

    def remove_leftovers(self, older_than_s: float = LEFTOVER_AGE_S) -> int:
        """Delete temporary files of writers that were killed; return how many.

        Args:
            older_than_s: Only those not written to for so many seconds.
        """
        removed = 0
        limit = time.time() - older_than_s
        with suppress(OSError):  # a store we may only read, or none yet
            with os.scandir(self.path / INGEST_DIR) as entries:
                names = [entry.path for entry in entries if entry.name.endswith(_PART_SUFFIX)]
            for name in names:
                with suppress(OSError):  # gone meanwhile, or somebody else's
                    if os.lstat(name).st_mtime < limit:
                        os.unlink(name)  # noqa: PTH108  # scandir gives texts
                        removed += 1
        return removed

    def new_part_path(self) -> Path:
        """Return a fresh name for a temporary file on the store's own file system.

        Raises:
            LayoutError: The folder for them cannot be made.
        """
        with os_errors_as_layout_errors(f"cannot write to {self.path}"):
            self.ingest_path.mkdir(mode=_DIR_MODE, exist_ok=True)
        return self.ingest_path / (secrets.token_hex(12) + _PART_SUFFIX)

    def resumable_part_path(self, digest: Digest) -> Path:
        """Return where the beginning of a blob waits for whoever goes on with it.

        Raises:
            LayoutError: The folder for it cannot be made.
        """
        folder = self.path / INGEST_DIR
        with os_errors_as_layout_errors(f"cannot write to {self.path}"):
            folder.mkdir(mode=_DIR_MODE, exist_ok=True)
        return folder / f"{digest.algorithm}-{digest.hex}{_PART_SUFFIX}"

    def _find(self, digest: Digest) -> BlobInfo | None:
        try:
            status = self.blob_path(digest).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise LayoutError(f"cannot look for blob {digest} in {self.path}", why=exc.strerror or "") from exc
        if not stat.S_ISREG(status.st_mode):
            return None
        return BlobInfo(digest, status.st_size, status.st_mtime_ns)

    def _refuse_size(self, digest: Digest, actual: int, expected: int) -> NoReturn:
        raise LayoutError(f"blob {digest} in {self.path} is damaged", why=f"it has {actual} bytes; expected {expected}")

    def _refuse_missing(self, digest: Digest) -> NoReturn:
        raise BlobNotFoundError(f"blob {digest} is not in {self.path}")


class BlobWriter:
    """One blob on its way into a store; leaving the ``with`` block without a commit drops it.

    One that may be resumed is kept instead when the block raises, unless its bytes are known to be wrong. Belongs to
    one thread.

    Attributes:
        size_bytes: Bytes written so far, by an earlier writer or this one.
    """

    def __init__(
        self, store: BlobStore, expected: Digest | None, size_bytes: int | None, *, resume: bool = False
    ) -> None:
        self._store = store
        self._expected = expected
        self._expected_size = size_bytes
        self._algorithm = "sha256" if expected is None else expected.algorithm
        self._hasher: Hash = new_hash(self._algorithm)
        self._unhashed = b""  # written, and not in the digest yet
        self.size_bytes = 0
        self._file: BinaryIO | None = None
        self._lock = -1  # of a file that may be resumed; held until that has its name
        self._is_done = False  # the file is dropped, or has its name
        if resume and expected is not None:
            self._resume(expected)
        if self._file is None:
            self._path = store.new_part_path()
            with os_errors_as_layout_errors(f"cannot write to {store.path}"):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.fdopen(os.open(self._path, flags, _FILE_MODE), "w+b")

    def _resume(self, digest: Digest) -> None:
        """Take over what an earlier writer left, unless somebody else has just done so."""
        path = self._store.resumable_part_path(digest)
        with os_errors_as_layout_errors(f"cannot write to {self._store.path}"):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.fdopen(os.open(path, flags, _FILE_MODE), "r+b")
            try:
                if not _is_locked_by_us(file, path):
                    file.close()
                    return
                if self._expected_size is not None and os.fstat(file.fileno()).st_size > self._expected_size:
                    file.truncate(0)
                for chunk in read_chunks(file):
                    self._hasher.update(chunk)
                    self.size_bytes += len(chunk)
            except BaseException:
                file.close()
                raise
        self._path, self._file, self._lock = path, file, os.dup(file.fileno())

    @property
    def digest(self) -> Digest:
        """Digest of the bytes written so far."""
        self.catch_up()
        return Digest.from_hash(self._hasher)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            LayoutError: They cannot be written, for example because the disk is full.
            DigestMismatchError: They are more than the expected size.
        """
        file = self._open_file()
        self._check_room(len(data))
        with os_errors_as_layout_errors(f"cannot write to {self._store.path}"):
            file.write(data)
        self.catch_up()
        self._hasher.update(data)
        self.size_bytes += len(data)

    def append(self, data: bytes) -> None:
        """Append bytes as :meth:`write` does, but leave their digest for :meth:`catch_up`.

        Who sends them can be told in between that they are written, and goes on meanwhile.

        Raises:
            LayoutError: As :meth:`write`.
            DigestMismatchError: As :meth:`write`.
        """
        file = self._open_file()
        self._check_room(len(data))
        with os_errors_as_layout_errors(f"cannot write to {self._store.path}"):
            file.write(data)
        self.catch_up()
        self._unhashed = data
        self.size_bytes += len(data)

    def catch_up(self) -> None:
        """Compute the digest of what was appended."""
        data, self._unhashed = self._unhashed, b""
        if data:
            self._hasher.update(data)

    def _check_room(self, more_bytes: int) -> None:
        if self._expected_size is not None and self.size_bytes + more_bytes > self._expected_size:
            self._refuse_size(self.size_bytes + more_bytes, self._expected_size)

    def truncate(self) -> None:
        """Drop what was written and start from the beginning.

        Raises:
            LayoutError: The file cannot be cut.
        """
        file = self._open_file()
        with os_errors_as_layout_errors(f"cannot write to {self._store.path}"):
            file.seek(0)
            file.truncate()
        self._hasher = new_hash(self._algorithm)
        self._unhashed = b""
        self.size_bytes = 0

    def seal(self) -> Digest:
        """Finish the bytes without giving them their name yet; :meth:`commit` does that.

        Returns:
            Their digest.

        Raises:
            LayoutError: They cannot be written to the end.
        """
        if self._file is not None:
            with os_errors_as_layout_errors(f"cannot write to {self._store.path}"):
                self._file.flush()
                if self._store.durable:
                    os.fsync(self._file.fileno())
                self._file.close()
            self._file = None
        return self.digest

    def open_written(self) -> BinaryIO:
        """Open the bytes written so far for reading; all of them once the blob is sealed.

        Raises:
            LayoutError: They cannot be read.
        """
        with os_errors_as_layout_errors(f"cannot read {self._path}"):
            return self._path.open("rb")

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> Digest:
        """Check the bytes and give them their name.

        Args:
            expected: The digest they must have; None means the one named at the start.
            size_bytes: The length they must have; None means the one named at the start.

        Returns:
            The blob's digest: the expected one, or the computed one when none was expected.

        Raises:
            DigestMismatchError: Digest or size are others; the bytes are dropped.
            LayoutError: The blob cannot be stored.
        """
        wanted = expected or self._expected
        wanted_size = self._expected_size if size_bytes is None else size_bytes
        try:
            found = self.seal()
            if wanted is not None and wanted.algorithm != found.algorithm:
                found = self._rehash(wanted.algorithm)
            if wanted_size is not None and wanted_size != self.size_bytes:
                self._refuse_size(self.size_bytes, wanted_size)
            if wanted is not None and wanted != found:
                raise DigestMismatchError(f"the bytes are not blob {wanted}", why=f"their digest is {found}")
            self._rename(found)
        except BaseException:
            self.abort()
            raise
        return found

    def abort(self) -> None:
        """Drop the bytes, also for later writers; nothing happens after a commit."""
        self._close()
        if not self._is_done:  # else the name may be another writer's by now
            self._is_done = True
            with suppress(OSError):
                self._path.unlink()
        self._unlock()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the bytes unless they were committed, or are of use to a later writer."""
        was_stopped = error is not None and not isinstance(error, (DigestMismatchError, LayoutError))
        if was_stopped and self._lock >= 0 and self.size_bytes:
            self._close()
            self._unlock()
        else:
            self.abort()

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk fails the flush of bytes nobody wants
                self._file.close()
            self._file = None

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise LayoutError("the blob is finished; nothing can be written to it any more")
        return self._file

    def _refuse_size(self, found: int, expected: int) -> NoReturn:
        raise DigestMismatchError(
            f"the bytes are not blob {self._expected or ''}".rstrip(), why=f"{found} bytes came; expected {expected}"
        )

    def _rehash(self, algorithm: str) -> Digest:
        hasher = new_hash(algorithm)
        with self.open_written() as stream, os_errors_as_layout_errors(f"cannot read {self._path}"):
            for chunk in read_chunks(stream):
                hasher.update(chunk)
        return Digest.from_hash(hasher)

    def _rename(self, digest: Digest) -> None:
        if self._store.keep_blob(digest, self.size_bytes):
            self.abort()
            return
        target = self._store.blob_path(digest)
        with os_errors_as_layout_errors(f"cannot store blob {digest} in {self._store.path}"):
            target.parent.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
            self._path.rename(target)
            self._is_done = True
            self._unlock()
            if self._store.durable:
                sync_directory(target.parent)


def _is_locked_by_us(file: BinaryIO, path: Path) -> bool:
    """Lock an open file; return whether that worked, and it is still the one of that name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, current = os.fstat(file.fileno()), path.stat()
    except (BlockingIOError, FileNotFoundError):
        return False
    return stat.S_ISREG(held.st_mode) and (held.st_dev, held.st_ino) == (current.st_dev, current.st_ino)


def sync_directory(path: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def os_errors_as_layout_errors(what: str) -> Iterator[None]:
    """Turn an ``OSError`` into a :class:`LayoutError` that says what could not be done."""
    try:
        yield
    except OSError as exc:
        raise LayoutError(what, why=exc.strerror or str(exc)) from exc
