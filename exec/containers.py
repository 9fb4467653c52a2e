"""Which objects of a store contain another one: a state its tensors, a job its graphs and its data."""

from __future__ import annotations

from collections.abc import Iterable

from samebits.cas import Digest, Store, references


def find_containers(store: Store, roots: Iterable[Digest], wanted: Digest) -> list[Digest]:
    """Return those of the roots that contain `wanted`, at any depth; a root does not contain itself.

    Looks into every node under the roots once. What the store lacks is passed over.
    """
    roots = list(dict.fromkeys(roots))
    parents: dict[Digest, list[Digest]] = {}
    waiting, seen = list(roots), set(roots)
    while waiting:
        holder = waiting.pop()
        if not store.has(holder) or store.stat(holder).kind != "node":
            continue
        for part in references(store.get_node(holder)):
            parents.setdefault(part, []).append(holder)
            if part not in seen:
                seen.add(part)
                waiting.append(part)
    holders: set[Digest] = set()
    rising = [wanted]
    while rising:
        for holder in parents.get(rising.pop(), ()):
            if holder not in holders:
                holders.add(holder)
                rising.append(holder)
    return [root for root in roots if root in holders]
