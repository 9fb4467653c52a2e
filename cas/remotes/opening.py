"""Open a remote by the text that a user types."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from samebits.cas.errors import RemoteError
from samebits.cas.remotes.directory import DirectoryFiles
from samebits.cas.remotes.files import FileRemote
from samebits.cas.remotes.http import open_http
from samebits.cas.remotes.protocol import Remote
from samebits.cas.remotes.s3 import open_s3
from samebits.cas.remotes.store_remote import StoreRemote
from samebits.cas.store import ENVIRONMENT_FOLDER, Store


def open_remote(
    text: str, *, create: bool = False, writable: bool = False, endpoint: str | None = None, timeout_s: float = 30.0
) -> Remote:
    """Open the remote that `text` names: a path or `file://` URL, `http(s)://HOST/PATH`, or `s3://BUCKET/PREFIX`.

    A path to a store is a remote too; it is opened for reading only unless `writable`. With `create` a directory or S3
    prefix that is empty becomes a remote. `endpoint` is the URL of an S3 service that is not AWS's. Raises RemoteError
    where there is no remote.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        if ":" in text.partition("/")[0] and not Path(text).exists():
            raise RemoteError(text, "names another machine, which can't be reached that way (./NAME is a folder here)")
        return _open_path(Path(text), text, create=create, writable=writable)
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise RemoteError(text, "want file:///PATH")
        return _open_path(Path(unquote(parts.path)), text, create=create, writable=writable)
    if scheme in ("http", "https"):
        return open_http(text, timeout_s=timeout_s)
    if scheme == "s3":
        return open_s3(text, create=create, endpoint=endpoint, timeout_s=timeout_s)
    raise RemoteError(text, f"unknown kind of remote {scheme!r}; want a path, file://, http://, https:// or s3://")


def _open_path(path: Path, name: str, *, create: bool, writable: bool) -> Remote:
    if (path / ENVIRONMENT_FOLDER / "data.mdb").is_file():
        return StoreRemote(Store(path, read_only=not writable, create=False), name)
    if path.exists() and not path.is_dir():
        raise RemoteError(name, "is not a directory")
    remote = FileRemote(name, DirectoryFiles(name, path))
    remote.check_marker(create=create)
    return remote
