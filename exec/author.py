"""The key that signs a store's runs and verdicts: where it is kept, and making it on first use.

It is the user's, not the log's: the log's key (`ledger/log.key`) vouches for the order of the entries, this one for
what they say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from samebits.cas import Store
from samebits.ledger import KeyFileError, SigningKey, load_or_create_key
from samebits.ledger.keyfile import find_key

AUTHOR_NAME: Final = "samebits.local/author"
_PLACE: Final = ("keys", "author.key")


def author_key_path(store: Path) -> Path:
    """Return where the store in this folder keeps its author's key."""
    return Path(store).joinpath(*_PLACE)


def author_key(store: Store) -> SigningKey:
    """Return the key that signs this store's runs and verdicts; it is made on first use. Raises KeyFileError."""
    return load_or_create_key(author_key_path(Path(store.path)), AUTHOR_NAME)


def own_key(store: Path) -> SigningKey | None:
    """Return the key of the author of the store in this folder; None if there is none, or none that this user can use.

    Nothing is made: without a key, the store still holds runs.
    """
    try:
        return find_key(author_key_path(store))
    except KeyFileError:
        return None
