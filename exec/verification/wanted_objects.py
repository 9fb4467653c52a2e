"""The objects that a verification needs: fetched by hash, and every byte of them hashed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from samebits.cas import CasError, Digest, RemoteError, Store, StoreError, check_objects, pull
from samebits.cas.errors import BadRowError
from samebits.cas.remotes.protocol import Remote

_MAX_REFUSALS = 3  # of a remote that gives no answer, in a row, until it is asked no more


@dataclass(slots=True)
class WantedObjects:
    """What is known of the objects so far. Roots are addresses; each stands for all that it refers to."""

    store: Store
    remote: Remote | None  # None: there is nowhere to fetch from
    bytes_fetched: int = 0
    objects_checked: int = 0
    lacking: dict[Digest, str] = field(default_factory=dict)  # roots that can't be had whole, and why

    @property
    def problems(self) -> tuple[str, ...]:
        """Why roots can't be had, each reason once."""
        return tuple(dict.fromkeys(self.lacking.values()))

    def fetch(self, roots: Sequence[Digest]) -> None:
        """Fetch what the store lacks; what can't be had is noted. Raises StoreError if the store takes nothing."""
        if self.remote is None:
            return
        try:
            self.bytes_fetched += pull(self.remote, self.store, roots).size_bytes
        except StoreError:
            raise
        except CasError:
            self._fetch_singly(self.remote, roots)

    def check(self, roots: Sequence[Digest]) -> None:
        """Hash everything again; what is missing or damaged is noted."""
        objects, damaged = check_objects(self.store, roots)
        self.objects_checked += objects
        if damaged:
            for root in roots:
                for damage in check_objects(self.store, [root])[1][:1]:
                    self.lacking.setdefault(root, f"object {damage.digest} is not intact: {damage.reason}")

    def _fetch_singly(self, remote: Remote, roots: Sequence[Digest]) -> None:
        """Fetch root by root, so that one that can't be had does not keep the others away."""
        refusals, reason = 0, ""
        for root in roots:
            if refusals == _MAX_REFUSALS:
                if self.store.missing([root]):
                    self.lacking[root] = reason
                continue
            try:
                self.bytes_fetched += pull(remote, self.store, [root]).size_bytes
                refusals = 0
            except StoreError:
                raise
            except CasError as error:
                self.lacking[root] = reason = str(error)
                silent = isinstance(error, RemoteError) and not isinstance(error, BadRowError)
                refusals = refusals + 1 if silent else 0
