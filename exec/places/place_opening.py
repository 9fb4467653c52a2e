"""Open a place that has runs, by the text that a user types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from samebits.cas import Store, open_remote
from samebits.cas.store import ENVIRONMENT_FOLDER
from samebits.exec.errors import RunError
from samebits.exec.places.archive_place import ArchivePlace
from samebits.exec.places.remote_places import RemotePlace
from samebits.exec.places.run_places import RunPlace, StorePlace
from samebits.ledger import VerifierKey

ARCHIVE_SUFFIX: Final = ".car"


@contextmanager
def open_run_place(
    place: str | None, store: Store, *, log_key: VerifierKey | None = None, timeout_s: float = 30.0
) -> Iterator[RunPlace]:
    """Open a place: None for the user's own `store`, a store's folder, an archive (.car), or any remote.

    A remote is http(s)://HOST/PATH (`samebits serve`, or any web server), s3://BUCKET/PREFIX, or a folder in the layout
    of a remote. The log of a run must have `log_key` if that is given. Raises RemoteError, StoreError, FileError.
    """
    if place is None:
        yield StorePlace(store, is_own=True, log_key=log_key)
        return
    path = _local_path(place)
    if path is not None and (path / ENVIRONMENT_FOLDER / "data.mdb").is_file():
        if path.resolve() == store.path.resolve():
            yield StorePlace(store, is_own=True, log_key=log_key)
            return
        with Store(path, read_only=True, create=False) as other:
            yield StorePlace(other, log_key=log_key)
    elif path is not None and path.suffix == ARCHIVE_SUFFIX and not path.is_dir():
        yield ArchivePlace(path, store, log_key)
    else:
        url = place if place.startswith(("http://", "https://")) else None
        with closing(open_remote(place, timeout_s=timeout_s)) as remote:
            yield RemotePlace(remote, url, log_key, timeout_s)


def check_place(place: str | None) -> None:
    """Raise RunError for a path that is not there; what it is, and whether a remote answers, opening it says."""
    path = None if place is None else _local_path(place)
    if path is not None and not path.exists():
        raise RunError(f"place {place}: there is no such folder or archive; a URL begins with http:// or the like")


def _local_path(place: str) -> Path | None:
    """Return the path that a place is; None for one elsewhere."""
    if "://" not in place:
        return Path(place)
    parts = urlsplit(place)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None
