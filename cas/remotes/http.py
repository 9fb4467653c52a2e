"""Remotes over HTTP: a samebits server, and any static file server that gives out a directory remote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from samebits.cas.digest import DIGEST_SIZE_BYTES, Digest
from samebits.cas.errors import ObjectNotFoundError, RemoteError
from samebits.cas.remotes.files import FileRemote
from samebits.cas.remotes.framing import MAX_ANSWER_SIZE_BYTES, MAX_ASKED, read_frames
from samebits.cas.remotes.http_client import Answer, HttpClient
from samebits.cas.remotes.layout import MARKER, MARKER_PATH, format_address, pin_path
from samebits.cas.remotes.protocol import parse_record
from samebits.cas.wire import WireRecord

SERVER_HEADER: Final = "samebits-server"  # a server of ours says `samebits-server: 1`
_REFUSAL_SIZE_BYTES: Final = 4096
_STATIC_CONCURRENCY: Final = 8


def open_http(url: str, *, timeout_s: float = 30.0) -> FileRemote:
    """Return the remote at a URL; raises RemoteError if there is none."""
    name = url.rstrip("/")
    client = HttpClient(name, timeout_s=timeout_s)
    answer = client.request("GET", MARKER_PATH, len(MARKER))
    _check_status(name, MARKER_PATH, answer)
    if answer.status == 404 or answer.data != MARKER:
        client.close()
        reason = "there is none" if answer.status == 404 else "it is of another version, or something else"
        raise RemoteError(name, f"is not a samebits remote ({MARKER_PATH}: {reason})")
    if answer.headers.get(SERVER_HEADER) == "1":
        return ServerRemote(name, client)
    return FileRemote(name, HttpFiles(name, client), concurrency=_STATIC_CONCURRENCY)


class HttpFiles:
    """The files below a URL."""

    def __init__(self, name: str, client: HttpClient) -> None:
        self._name = name
        self._client = client

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file, at most `limit_bytes` + 1 bytes of it; None if there is none."""
        answer = self._client.request("GET", path, max(limit_bytes, _REFUSAL_SIZE_BYTES))
        _check_status(self._name, path, answer)
        return None if answer.status == 404 else answer.data[: limit_bytes + 1]

    def exists(self, path: str) -> bool:
        """Return whether there is a file of this name."""
        answer = self._client.request("HEAD", path, 0)
        _check_status(self._name, path, answer)
        return answer.status != 404

    def write(self, path: str, data: bytes) -> None:
        """Send a file; raises RemoteError where the server takes none."""
        answer = self._client.request("PUT", path, _REFUSAL_SIZE_BYTES, data)
        if answer.status in (401, 403, 405, 501):
            raise RemoteError(self._name, "is read-only: it does not take what is sent to it")
        if answer.status == 404:
            raise RemoteError(self._name, f"has no place for {path}")
        _check_status(self._name, path, answer)

    def settle(self) -> None:
        """Do nothing: the server answers when it has what it was sent."""

    def names(self, folder: str) -> None:
        """Return None: HTTP has no listing."""

    def close(self) -> None:
        """Close every connection, those in use too."""
        self._client.close()


class ServerRemote(FileRemote):
    """A samebits server, which is asked for many things in one request."""

    def __init__(self, name: str, client: HttpClient) -> None:
        super().__init__(name, HttpFiles(name, client))
        self._client = client

    def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those of `digests` that the remote has no object of, in their order."""
        absent = self._absent("missing", [digest.raw for digest in digests])
        return [digest for digest in digests if digest.raw in absent]

    def missing_rows(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return those of `keys` that the remote has no row of, in their order."""
        absent = self._absent("missing-rows", keys)
        return [key for key in keys if key in absent]

    def read_records(self, digests: Sequence[Digest]) -> list[WireRecord]:
        """Return the records of objects, in their order, each checked; raises ObjectNotFoundError."""
        records: list[WireRecord] = []
        while len(records) < len(digests):
            asked = digests[len(records) : len(records) + MAX_ASKED]
            answer = self._post("records", b"".join(digest.raw for digest in asked), MAX_ANSWER_SIZE_BYTES)
            frames = read_frames(self.name, answer, len(asked))
            for digest, frame in zip(asked, frames, strict=False):
                if not frame:
                    raise ObjectNotFoundError(digest, f"remote {self.name}")
                records.append(parse_record(self.name, digest, frame))
        return records

    def write_pin(self, name: str, digest: Digest) -> None:
        """Give an object a name, in place of what had it; raises ValueError for a name that can't be one."""
        path = pin_path(name)
        if self.missing([digest]):
            raise ObjectNotFoundError(digest, f"remote {self.name}")
        self._files.write(path, format_address(digest))

    def _absent(self, path: str, keys: Sequence[bytes]) -> set[bytes]:
        absent: set[bytes] = set()
        for start in range(0, len(keys), MAX_ASKED):
            asked = keys[start : start + MAX_ASKED]
            data = self._post(path, b"".join(asked), len(asked) * DIGEST_SIZE_BYTES)
            if len(data) % DIGEST_SIZE_BYTES:
                raise RemoteError(self.name, f"its answer to {path} is not a list of addresses")
            absent |= {data[at : at + DIGEST_SIZE_BYTES] for at in range(0, len(data), DIGEST_SIZE_BYTES)}
        return absent

    def _post(self, path: str, body: bytes, limit_bytes: int) -> bytes:
        answer = self._client.request("POST", path, max(limit_bytes, _REFUSAL_SIZE_BYTES), body)
        _check_status(self.name, path, answer)
        if answer.status != 200 or len(answer.data) > limit_bytes:
            raise RemoteError(self.name, f"its answer to {path} is longer than {limit_bytes} bytes, or there is none")
        return answer.data


def _check_status(name: str, path: str, answer: Answer) -> None:
    """Raise RemoteError unless the answer is a success, or says that there is no such thing."""
    if (200 <= answer.status < 300 and answer.status != 206) or answer.status == 404:
        return
    if 300 <= answer.status < 400:
        target = answer.headers.get("location", "")[:200]
        raise RemoteError(name, f"redirects {path} to {target!r}, which is not followed; use that URL instead")
    line = answer.data[:200].decode("utf-8", "replace").partition("\n")[0]
    raise RemoteError(name, f"answers {path} with status {answer.status}" + (f": {line}" if line else ""))
