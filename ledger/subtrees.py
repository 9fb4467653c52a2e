"""Which subtrees of a Merkle tree a proof is made of, as pure functions over indexes.

A subtree is the half-open range of its leaves. Example: the inclusion proof of leaf 4 in a tree of 7 consists of the
roots of [5, 6), [6, 7) and [0, 4), in this order.

Source: RFC 6962 sections 2.1.1 and 2.1.2.
"""

from __future__ import annotations

from collections.abc import Iterator

Subtree = tuple[int, int]  # first leaf, one past the last


def inclusion_subtrees(index: int, tree_size: int) -> list[Subtree]:
    """Return the siblings on the way from leaf `index` up to the root; raises ValueError for an index outside."""
    if not 0 <= index < tree_size:
        raise ValueError(f"leaf {index} is not in a tree of {tree_size}")
    start, stop, siblings = 0, tree_size, []
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            siblings.append((middle, stop))
            stop = middle
        else:
            siblings.append((start, middle))
            start = middle
    return siblings[::-1]


def consistency_subtrees(old_size: int, tree_size: int) -> list[Subtree]:
    """Return what proves that the tree of `old_size` leaves is a prefix; raises ValueError for a size outside.

    Nothing for an old size of 0 and for the tree itself.
    """
    if not 0 <= old_size <= tree_size:
        raise ValueError(f"a tree of {tree_size} has no prefix of {old_size}")
    if old_size in (0, tree_size):
        return []
    start, stop, parts = 0, tree_size, []
    while old_size != stop:
        middle = start + _split(stop - start)
        if old_size <= middle:
            parts.append((middle, stop))
            stop = middle
        else:
            parts.append((start, middle))
            start = middle
    if start:  # else the old tree is this subtree, and its root is known
        parts.append((start, stop))
    return parts[::-1]


def perfect_subtrees(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Return the perfect subtrees (height, index) that a subtree of a tree is made of, the largest first.

    Their roots, folded from the right, give the subtree's root.
    """
    while start < stop:
        height = (stop - start).bit_length() - 1
        yield height, start >> height
        start += 1 << height


def _split(size: int) -> int:
    """Return the largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1
