"""Move objects between a store and a remote: pull, push, and clone."""

from __future__ import annotations

from samebits.cas.errors import RemoteError, StoreError
from samebits.cas.pins import pin_key
from samebits.cas.pulling import pull
from samebits.cas.pushing import push
from samebits.cas.remotes.protocol import Remote
from samebits.cas.store import Store
from samebits.cas.tally import Progress, TransferReport

__all__ = ["Progress", "TransferReport", "clone", "pull", "push"]


def clone(remote: Remote, store: Store, *, progress: Progress | None = None, workers: int = 8) -> TransferReport:
    """Pull everything that the remote has pinned, and pin it under the same names.

    Raises StoreError, before anything is pulled, if the store has one of these pins for another object; and what `pull`
    raises.
    """
    pins = remote.pins()
    ours = store.pins()
    for name, digest in pins.items():
        if ours.get(name, digest) != digest:
            raise StoreError(
                store.path, f"its pin {name!r} is another object than the remote's; unpin it, or pull instead"
            )
    for name in pins:
        try:
            pin_key(name)
        except ValueError as error:
            raise RemoteError(remote.name, f"has a pin that can't be one: {error}") from error
    report = pull(remote, store, pins.values(), progress=progress, workers=workers)
    for name, digest in pins.items():
        store.pin(name, digest)
    return report
