"""Read a bounded part of a file, and never ask for more than is there."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from samebits.cas.errors import FileFormatError


class BoundedReader:
    """Bytes [position, stop) of a stream; every read past the end is a FileFormatError before anything is read."""

    def __init__(self, stream: BinaryIO, start: int, stop: int, path: Path, what: str) -> None:
        """Read from `start`; `what` names the part in messages ("GGUF header")."""
        stream.seek(start)
        self._stream = stream
        self._path = path
        self._what = what
        self.position = start
        self.stop = stop

    def read(self, size_bytes: int) -> bytes:
        """Return exactly so many bytes."""
        if size_bytes > self.stop - self.position:
            raise self.error(f"ends early: {size_bytes} bytes wanted at {self.position}, it ends at {self.stop}")
        data = self._stream.read(size_bytes)
        if len(data) != size_bytes:
            raise FileFormatError(self._path, "became shorter while it was read")
        self.position += size_bytes
        return data

    def read_line(self, limit_bytes: int) -> bytes:
        """Return the bytes up to a line feed, without it."""
        line = self._stream.readline(min(limit_bytes + 1, self.stop - self.position))
        self.position += len(line)
        if not line.endswith(b"\n"):
            raise self.error(f"has a line that does not end, or of more than {limit_bytes} bytes")
        return line[:-1]

    def read_unsigned(self, size_bytes: int) -> int:
        """Return a little-endian unsigned integer."""
        return int.from_bytes(self.read(size_bytes), "little")

    def skip(self, size_bytes: int) -> None:
        """Go past so many bytes without reading them."""
        if size_bytes > self.stop - self.position:
            raise self.error(f"ends early: {size_bytes} bytes wanted at {self.position}, it ends at {self.stop}")
        self.position += size_bytes
        self._stream.seek(self.position)

    def error(self, reason: str) -> FileFormatError:
        """Return the error that says what is wrong with this part."""
        return FileFormatError(self._path, f"its {self._what} {reason}")
