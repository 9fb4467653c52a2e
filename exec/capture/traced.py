"""What tracing gives: a flat graph of functional ATen ops with named inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch.fx import GraphModule, Node

from samebits.exec.capture.watch import functional_name_of

# Ops whose result has the type of their first argument but not its value.
VALUE_FREE: Final = frozenset(
    f"aten.{name}" for name in ("zero", "zeros_like", "ones_like", "full_like", "fill", "empty_like", "new_empty")
)


@dataclass(frozen=True, slots=True)
class Trace:
    """A traced function: placeholders follow `inputs`, the results follow `outputs`."""

    module: GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lines: Mapping[str, Collection[str]]  # ATen op -> the user's lines that called it

    def depends_on(self, prefix: str) -> bool:
        """Tell whether any result depends on an input whose name starts with `prefix`."""
        placeholders = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        reached = {node for node, name in zip(placeholders, self.inputs, strict=True) if name.startswith(prefix)}
        for node in self.module.graph.nodes:
            if reached.intersection(node.all_input_nodes) and functional_name_of(node) not in VALUE_FREE:
                reached.add(node)
        return any(node.op == "output" for node in reached)

    def same_calls(self, other: Trace) -> bool:
        """Tell whether another trace makes the same calls with the same arguments."""
        return self.outputs == other.outputs and list(_calls(self.module)) == list(_calls(other.module))


def _calls(module: GraphModule) -> Iterator[object]:
    """Yield each node with its arguments, other nodes by number and constants by value."""
    number: dict[Node, str] = {}
    for node in module.graph.nodes:
        number[node] = f"%{len(number)}"
        target = getattr(module, node.target) if node.op == "get_attr" else None
        constant = None if target is None else (str(target.dtype), target.tolist())
        arguments = torch.fx.node.map_arg((node.args, node.kwargs), number.__getitem__)
        yield node.op, "" if node.op in ("get_attr", "placeholder") else str(node.target), repr(arguments), constant
