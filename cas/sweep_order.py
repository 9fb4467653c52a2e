"""In which order nodes go that nothing needs: each before those that it refers to.

So whatever is still there has all that it refers to, and can be put again, pinned or claimed at any moment of a sweep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def parents_first(references: Mapping[bytes, Sequence[bytes]]) -> list[bytes]:
    """Return the nodes (address -> addresses that it refers to, of nodes or not), each before those it refers to."""
    referred = Counter(child for children in references.values() for child in children if child in references)
    order = [node for node in references if referred[node] == 0]
    for node in order:  # grows meanwhile
        for child in references[node]:
            if child in references:
                referred[child] -= 1
                if referred[child] == 0:
                    order.append(child)
    if len(order) != len(references):
        raise AssertionError("no node refers to itself, its address is the hash of what it refers to")
    return order
