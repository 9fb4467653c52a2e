"""Which format a file has: by its suffix and its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

from samebits.cas.formats.gguf import plan_gguf
from samebits.cas.formats.npy import NPY_MAGIC, plan_npy
from samebits.cas.formats.npz import plan_npz
from samebits.cas.formats.plan import FilePlan, check_plan
from samebits.cas.formats.safetensors import plan_safetensors
from samebits.cas.formats.torch_legacy import is_legacy_start, plan_torch_legacy
from samebits.cas.formats.torch_zip import plan_torch_zip
from samebits.cas.formats.zip_sections import EMPTY_ZIP_MAGIC, ZIP_MAGIC

TORCH_SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt")
_START_SIZE_BYTES: Final = 32


def plan_file(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan | None:
    """Return the checked plan of a file, or None for one that is stored as plain bytes.

    `.safetensors` and `.gguf` must be what they say. The others are read if they start as their format does. Raises
    FileFormatError for a file whose content contradicts itself, or that has a pickle with more than plain weights.
    """
    plan = _plan(stream, size_bytes, path)
    if plan is not None:
        check_plan(plan, size_bytes, path)
    return plan


def _plan(stream: BinaryIO, size_bytes: int, path: Path) -> FilePlan | None:
    start = stream.read(_START_SIZE_BYTES)
    stream.seek(0)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return plan_safetensors(stream, size_bytes, path)
    if suffix == ".gguf":
        return plan_gguf(stream, size_bytes, path)
    if suffix == ".npy" and start.startswith(NPY_MAGIC):
        return plan_npy(stream, size_bytes, path)
    if suffix == ".npz" and start.startswith((ZIP_MAGIC, EMPTY_ZIP_MAGIC)):
        return plan_npz(stream, size_bytes, path)
    if suffix in TORCH_SUFFIXES and start.startswith(ZIP_MAGIC):
        return plan_torch_zip(stream, size_bytes, path)
    if suffix in TORCH_SUFFIXES and is_legacy_start(start):
        return plan_torch_legacy(stream, size_bytes, path)
    return None
