"""The source of compiled kernels as a stored object, so that anyone can read what a run executed.

Node ``kernel``: {language, options, source}; `source` is the blob of the whole text as the compiler got it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from samebits.cas import Digest, Node, Store
from samebits.cas.digest import hash_blob

KERNEL_KIND: Final = "kernel"


@dataclass(frozen=True, slots=True)
class KernelSource:
    """What a compiler was given: text and options."""

    language: str  # "opencl" | "cuda"
    options: tuple[str, ...]
    text: str

    def to_node(self) -> Node:
        """Return the node that names this source."""
        source = hash_blob(self.text.encode())
        return Node(KERNEL_KIND, {"language": self.language, "options": list(self.options), "source": source})


def put_kernels(store: Store, kernels: Iterable[KernelSource]) -> tuple[Digest, ...]:
    """Store kernel sources; returns their addresses, each once, in order."""
    addresses: dict[Digest, None] = {}
    with store.batch():
        for kernel in kernels:
            store.put_blob(kernel.text.encode())
            addresses[store.put_node(kernel.to_node())] = None
    return tuple(addresses)
