"""The arithmetic: op table, NumPy reference, conformance vectors. README.md states the contract."""

from samebits.kernels.errors import KernelError, OpError, UnknownOpError
from samebits.kernels.optable import OPS, Op, find_op
from samebits.kernels.types import TensorType

__all__ = ["OPS", "KernelError", "Op", "OpError", "TensorType", "UnknownOpError", "find_op"]
