"""The Merkle tree of a transparency log: root hashes and proofs, as pure functions over leaf hashes.

A leaf hash is SHA-256(00 || entry), an inner one SHA-256(01 || left || right); a tree of n > 1 leaves splits at the
largest power of two below n; the empty tree's root is SHA-256 of nothing.

Example: the tree of one empty entry has root ``6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d``.
Source: RFC 6962 section 2.1; the checks are those of RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from samebits.ledger.errors import ProofError

HASH_SIZE_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
_MAX_TREE_SIZE: Final = (1 << 63) - 1


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf: of an entry's bytes."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node from those of its two children."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class CompactRange:
    """What an appender must remember of a tree: the root of each perfect subtree, the largest and leftmost first.

    A tree of 13 = 8 + 4 + 1 leaves is remembered by three hashes.
    """

    tree_size: int = 0
    hashes: tuple[bytes, ...] = ()

    def extended(self, leaf: bytes) -> CompactRange:
        """Return the tree with one more leaf hash at the right; amortized two hashes."""
        hashes = list(self.hashes)
        carry = self.tree_size
        while carry & 1:
            leaf = node_hash(hashes.pop(), leaf)
            carry >>= 1
        return CompactRange(self.tree_size + 1, (*hashes, leaf))

    def root_hash(self) -> bytes:
        """Return the root hash of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_hash(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root hash of the tree over these leaf hashes."""
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def split_point(tree_size: int) -> int:
    """Return how many leaves of a tree of two or more are on the left of its root: the largest power of two below."""
    return 1 << (tree_size - 1).bit_length() - 1


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the siblings on the way from leaf `index` up to the root; raises ValueError for an index outside."""
    if not 0 <= index < len(leaf_hashes):
        raise ValueError(f"leaf {index} is not in a tree of {len(leaf_hashes)}")
    proof = []
    level = list(leaf_hashes)
    while len(level) > 1:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        index >>= 1
        level = _parents(level)
    return tuple(proof)


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Return the proof that the tree over the first `old_size` leaves is a prefix of the whole one.

    It is empty for an old size of 0 and for the tree itself. Raises ValueError for a size outside.
    """
    if not 0 <= old_size <= len(leaf_hashes):
        raise ValueError(f"a tree of {len(leaf_hashes)} has no prefix of {old_size}")
    if old_size == 0:
        return ()
    return tuple(_subproof(leaf_hashes, old_size, True))


def check_inclusion(index: int, tree_size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is leaf hash `index` of the tree of `tree_size` leaves with this root; raises ProofError."""
    if not 0 <= index < tree_size <= _MAX_TREE_SIZE:
        raise ProofError(f"leaf {index} cannot be in a tree of {tree_size}")
    _check_hashes([leaf, root, *proof])
    position, last = index, tree_size - 1
    running = leaf
    for sibling in proof:
        if last == 0:
            raise ProofError(f"the inclusion proof of leaf {index} in a tree of {tree_size} is too long")
        if position & 1 or position == last:
            running = node_hash(sibling, running)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            running = node_hash(running, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError(f"the inclusion proof of leaf {index} in a tree of {tree_size} is too short")
    if running != root:
        raise ProofError(f"leaf {index} is not in the tree of {tree_size} with root hash {root.hex()}")


def check_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the old tree is a prefix of the new one; raises ProofError.

    Every tree extends the empty one, whose proof is empty.
    """
    if not 0 <= old_size <= new_size <= _MAX_TREE_SIZE:
        raise ProofError(f"a tree of {old_size} cannot be a prefix of a tree of {new_size}")
    _check_hashes([old_root, new_root, *proof])
    if old_size in (0, new_size):
        known_root = new_root if old_size == new_size else EMPTY_ROOT
        if proof:
            raise ProofError(f"the consistency proof from {old_size} to {new_size} should be empty")
        if old_root != known_root or (new_size == 0 and new_root != EMPTY_ROOT):
            raise ProofError(f"the root hashes of the trees of {old_size} and {new_size} contradict each other")
        return
    if not proof:
        raise ProofError(f"the consistency proof from {old_size} to {new_size} is empty")
    old_found, new_found = _roots_of_consistency(old_size, new_size, old_root, proof)
    if old_found != old_root or new_found != new_root:
        raise ProofError(f"the tree of {old_size} is not a prefix of the tree of {new_size}")


def _roots_of_consistency(old_size: int, new_size: int, old_root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the two root hashes that a proof for 0 < old_size < new_size leads to."""
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # a perfect subtree: the proof leaves its root out
        path.insert(0, old_root)
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_found = new_found = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError(f"the consistency proof from {old_size} to {new_size} is too long")
        if position & 1 or position == last:
            old_found = node_hash(sibling, old_found)
            new_found = node_hash(sibling, new_found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_found = node_hash(new_found, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError(f"the consistency proof from {old_size} to {new_size} is too short")
    return old_found, new_found


def _parents(level: list[bytes]) -> list[bytes]:
    """Return the level above; a last node without a sibling moves up as it is."""
    above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above


def _subproof(leaf_hashes: Sequence[bytes], old_size: int, old_is_known: bool) -> list[bytes]:
    """RFC 6962's SUBPROOF(m, D[n], b)."""
    size = len(leaf_hashes)
    if old_size == size:
        return [] if old_is_known else [root_hash(leaf_hashes)]
    split = split_point(size)
    left, right = leaf_hashes[:split], leaf_hashes[split:]
    if old_size <= split:
        return [*_subproof(left, old_size, old_is_known), root_hash(right)]
    return [*_subproof(right, old_size - split, False), root_hash(left)]


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(item) != HASH_SIZE_BYTES for item in hashes):
        raise ProofError(f"a hash in a proof is {HASH_SIZE_BYTES} bytes")
