"""Correctly rounded elementary functions: RN(f(x)) from IEEE + - * / sqrt and integer operations alone."""

from samebits.kernels.functions.definitions import UNARY
from samebits.kernels.functions.evaluation import evaluate, evaluate2
from samebits.kernels.functions.two_arguments import BINARY

__all__ = ["BINARY", "UNARY", "evaluate", "evaluate2"]
