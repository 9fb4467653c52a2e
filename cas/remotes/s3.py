"""A remote in an S3 bucket, or in a service that speaks its protocol.

Credentials and region come from the usual variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
AWS_REGION, AWS_ENDPOINT_URL, AWS_SKIP_SIGNATURE for public buckets), or from the instance's role.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from samebits.cas.errors import RemoteError
from samebits.cas.remotes.files import FileRemote

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

_CONCURRENCY: Final = 16
_MAX_RETRIES: Final = 3
_PIECE_SIZE_BYTES: Final = 1 << 20


def open_s3(text: str, *, create: bool = False, endpoint: str | None = None, timeout_s: float = 30.0) -> FileRemote:
    """Return the remote `s3://BUCKET[/PREFIX]`; raises RemoteError if there is none."""
    name = text.rstrip("/")
    remote = FileRemote(name, S3Files(name, _connect(name, endpoint, timeout_s)), concurrency=_CONCURRENCY)
    remote.check_marker(create=create)
    return remote


class S3Files:
    """The objects below a prefix of a bucket."""

    def __init__(self, name: str, bucket: S3Store) -> None:
        self._name = name
        self._bucket = bucket

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return an object, at most `limit_bytes` + 1 bytes of it; None if there is none."""
        data = bytearray()
        with self._wrapped(path):
            try:
                for piece in self._bucket.get(path).stream(min_chunk_size=_PIECE_SIZE_BYTES):
                    data += memoryview(piece)[: limit_bytes + 1 - len(data)]
                    if len(data) > limit_bytes:
                        break
            except FileNotFoundError:
                return None
        return bytes(data)

    def exists(self, path: str) -> bool:
        """Return whether there is an object of this name."""
        with self._wrapped(path):
            try:
                self._bucket.head(path)
            except FileNotFoundError:
                return False
        return True

    def write(self, path: str, data: bytes) -> None:
        """Write an object in place of any other."""
        with self._wrapped(path):
            self._bucket.put(path, data, use_multipart=False)

    def settle(self) -> None:
        """Do nothing: S3 answers when it has what it was sent."""

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names below a folder."""
        with self._wrapped(folder):
            for page in self._bucket.list(folder or None):
                for meta in page:
                    yield meta["path"].removeprefix(f"{folder}/" if folder else "")

    def close(self) -> None:
        """Do nothing: idle connections end by themselves."""

    @contextmanager
    def _wrapped(self, path: str) -> Iterator[None]:
        """Raise the errors of obstore, but for "not found", as RemoteError."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            reason = "permission denied (the credentials come from the variables AWS_...)"
            raise RemoteError(self._name, f"{path or 'the bucket'}: {reason}") from error
        except (BaseError, OSError, ValueError) as error:
            raise RemoteError(self._name, f"{path or 'the bucket'}: {_describe(error)}") from error


def _connect(name: str, endpoint: str | None, timeout_s: float) -> S3Store:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise RemoteError(name, 'needs obstore: pip install "samebits[remote]"') from error
    parts = urlsplit(name)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise RemoteError(name, "want s3://BUCKET or s3://BUCKET/PREFIX")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    config: S3Config = {"region": region}
    if endpoint is not None:
        config["endpoint"] = endpoint
    plain = endpoint is not None and endpoint.startswith("http://")
    try:
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=config,
            client_options={
                "allow_http": plain,
                "connect_timeout": timedelta(seconds=min(timeout_s, 10)),
                "read_timeout": timedelta(seconds=timeout_s),
                "timeout": timedelta(seconds=4 * timeout_s),
            },
            retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": timedelta(seconds=2 * timeout_s)},
        )
    except (BaseError, ValueError) as error:
        raise RemoteError(name, _describe(error)) from error


def _describe(error: Exception) -> str:
    """Return the first line of an error: obstore's go on with debugging output."""
    text = str(error).partition("\n")[0]
    return text if len(text) <= 300 else text[:297] + "..."
