"""Correctly rounded elementary functions: RN(f(x)) from IEEE + - * / sqrt and integer operations alone."""

from samebits.kernels.functions.definitions import UNARY
from samebits.kernels.functions.evaluation import evaluate

__all__ = ["UNARY", "evaluate"]
