"""samebits: the same job gives the same bits on any machine, and anyone can check it by hash."""

from samebits.cas import Digest, Store
from samebits.exec.apply import apply
from samebits.exec.job import Job
from samebits.exec.job_file import load_job, save_job
from samebits.exec.runner import Run, run
from samebits.exec.training import training_job
from samebits.exec.verify import Verdict, verify

__version__ = "0.1.0"

__all__ = [
    "Digest",
    "Job",
    "Run",
    "Store",
    "Verdict",
    "apply",
    "load_job",
    "run",
    "save_job",
    "training_job",
    "verify",
]
