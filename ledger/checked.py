"""Which entries a process has verified the signature of, so that it is done once for each as long as they are few."""

from __future__ import annotations

import threading
from typing import Final

from samebits.cas.digest import Digest
from samebits.ledger.chain import RunChain
from samebits.ledger.entry import Entry, check_entry_signature
from samebits.ledger.errors import ChainError, SignatureError

MAX_REMEMBERED: Final = 1 << 16  # entries; about 7 MiB


class CheckedSignatures:
    """Checks signatures of entries, and remembers the latest that were good. Usable from several threads."""

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        """Remember at most so many."""
        self._most = most
        self._good: dict[Digest, None] = {}  # the oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._good)

    def check(self, index: int, address: Digest, entry: Entry) -> None:
        """Check the signature of an entry with this address; raises ChainError."""
        if address in self._good:
            return
        try:
            check_entry_signature(entry)
        except SignatureError as error:
            raise ChainError(index, address, str(error)) from None
        with self._lock:
            self._good[address] = None
            if len(self._good) > self._most:
                del self._good[next(iter(self._good))]

    def check_chain(self, chain: RunChain) -> None:
        """Check the signature of every entry of the chain; raises ChainError."""
        for item in chain.items():
            self.check(*item)
