"""The node of a stored weights file.

``["weights_file", {"format": "gguf", "header": <blob>, "order": [<blob>, ...], "tensors": <tree>}]``: header and
`order`, joined, are the file, byte for byte; `tensors` names those tensors whose bytes lie in the file as samebits
keeps them (C order, little endian, a type that it computes with).
"""

from __future__ import annotations

from typing import Final

from samebits.cas.digest import Digest
from samebits.cas.encoding import Value
from samebits.cas.errors import NodeError
from samebits.cas.node import Node

WEIGHTS_KIND: Final = "weights_file"
FORMATS: Final = ("safetensors", "gguf", "torch", "npy", "npz")


def weights_node(format_name: str, sections: list[Digest], tensors: Digest) -> Node:
    """Return the node of a file of these sections (the header is the first) and the tree of its tensors."""
    order: list[Value] = list(sections[1:])
    body: dict[str, Value] = {"format": format_name, "header": sections[0], "order": order, "tensors": tensors}
    return Node(WEIGHTS_KIND, body)


def weights_parts(node: Node) -> list[Digest]:
    """Return the blobs that, joined, are the file; raises NodeError."""
    match node:
        case Node("weights_file", {"format": str() as name, "header": Digest() as header, "order": [*order]} as body):
            if len(body) == 4 and name in FORMATS and isinstance(body.get("tensors"), Digest):
                parts = [part for part in (header, *order) if isinstance(part, Digest)]
                if len(parts) == len(order) + 1:
                    return parts
    raise NodeError(f"not a weights file ({', '.join(FORMATS)}) with the fields format, header, order and tensors")
