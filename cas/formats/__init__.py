"""Weight files: a plan of each (safetensors, GGUF, PyTorch, NumPy), and storing a file by its plan."""

from samebits.cas.formats.detect import plan_file
from samebits.cas.formats.plan import FilePlan, Section, TensorName, check_plan
from samebits.cas.formats.store_file import put_planned
from samebits.cas.formats.weights_node import FORMATS, WEIGHTS_KIND, weights_node, weights_parts

__all__ = [
    "FORMATS",
    "WEIGHTS_KIND",
    "FilePlan",
    "Section",
    "TensorName",
    "check_plan",
    "plan_file",
    "put_planned",
    "weights_node",
    "weights_parts",
]
