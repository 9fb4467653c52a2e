"""samebits: the same job gives the same bits on any machine, and anyone can check it by hash."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samebits.cas import Digest, Store
    from samebits.exec.apply import apply
    from samebits.exec.inference import generation_job, inference_job
    from samebits.exec.job import Job
    from samebits.exec.job_file import load_job, save_job
    from samebits.exec.outputs import outputs
    from samebits.exec.running.runner import Run, run
    from samebits.exec.training import training_job
    from samebits.exec.verification.verify import Verdict, verify

__version__ = "0.1.0"

__all__ = [
    "Digest",
    "Job",
    "Run",
    "Store",
    "Verdict",
    "apply",
    "generation_job",
    "inference_job",
    "load_job",
    "outputs",
    "run",
    "save_job",
    "training_job",
    "verify",
]

# where each name lives; loaded on first use, so that importing one room does not import them all
_HOMES = {
    **dict.fromkeys(("Digest", "Store"), "samebits.cas"),
    "apply": "samebits.exec.apply",
    **dict.fromkeys(("generation_job", "inference_job"), "samebits.exec.inference"),
    "Job": "samebits.exec.job",
    **dict.fromkeys(("load_job", "save_job"), "samebits.exec.job_file"),
    "outputs": "samebits.exec.outputs",
    **dict.fromkeys(("Run", "run"), "samebits.exec.running.runner"),
    "training_job": "samebits.exec.training",
    **dict.fromkeys(("Verdict", "verify"), "samebits.exec.verification.verify"),
}


def __getattr__(name: str) -> Any:
    """Return a public name, loading its room."""
    if name not in _HOMES:
        raise AttributeError(f"module 'samebits' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*globals(), *__all__})
