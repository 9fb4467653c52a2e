"""All lowering rules, and the names of the ATen ops that have one."""

from __future__ import annotations

from typing import Final

from samebits.exec.capture import (
    rules_activation,
    rules_conv,
    rules_create,
    rules_division,
    rules_elementwise,
    rules_functions,
    rules_gelu,
    rules_index,
    rules_loss,
    rules_move,
    rules_nn,
    rules_norm,
    rules_optimizer,
    rules_pool,
    rules_random,
    rules_reduce,
    rules_shape,
    rules_sort,
)
from samebits.exec.capture.lowering import RULES

__all__ = ["FILES", "RULES", "SUPPORTED"]

FILES: Final = (
    *(rules_elementwise, rules_division, rules_functions, rules_gelu, rules_activation, rules_create),
    *(rules_shape, rules_move, rules_index, rules_sort, rules_reduce, rules_nn),
    *(rules_norm, rules_conv, rules_pool, rules_loss, rules_random, rules_optimizer),
)
SUPPORTED: Final = frozenset(RULES)
