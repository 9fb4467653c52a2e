"""All lowering rules, and the names of the ATen ops that have one."""

from __future__ import annotations

from typing import Final

from samebits.exec.capture import rules_elementwise, rules_nn, rules_optimizer, rules_random, rules_shape
from samebits.exec.capture.lowering import RULES

__all__ = ["FILES", "RULES", "SUPPORTED"]

FILES: Final = (rules_elementwise, rules_shape, rules_nn, rules_random, rules_optimizer)
SUPPORTED: Final = frozenset(RULES)
