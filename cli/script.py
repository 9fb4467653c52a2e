"""Load a job from what the user names: a script, a job file or an address. A script is the only code that ever runs."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from pathlib import Path

from samebits.cas import CasError, Digest
from samebits.cli.output import OUR_ERRORS, CommandError
from samebits.exec.job import Job
from samebits.exec.job_file import load_job

DEFAULT_FUNCTION = "job"


def resolve_job(named: str) -> Job | Digest:
    """Return the job that `named` stands for: ``script.py[:function]``, a job file, or the address of a stored job."""
    path, function = _split(named)
    if path.suffix == ".py":
        return load_script(path, function)
    if path.is_file():
        return load_job(path)
    try:
        return Digest.parse(named)
    except CasError:
        raise CommandError(f"{named!r}: no such script, job file or address") from None


def load_script(path: Path, function: str) -> Job:
    """Run a script and call its function; raises CommandError with the user's line if that fails."""
    if not path.is_file():
        raise CommandError(f"{path}: no such script")
    name = f"_samebits_script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path}: not a Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the command's result
            spec.loader.exec_module(module)
            make = getattr(module, function, None)
            if not callable(make):
                raise CommandError(f"{path} defines no function {function}() that returns a job")
            job = make()
    except (*OUR_ERRORS, CommandError):
        raise
    except SystemExit as error:
        raise CommandError(f"{path}: the script exited with {error.code}") from error
    except Exception as error:
        hint = ' (pip install "samebits[torch]")' if isinstance(error, ImportError) and error.name == "torch" else ""
        raise CommandError(f"{_where(error, path)}: {type(error).__name__}: {error}{hint}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    if not isinstance(job, Job):
        raise CommandError(f"{path}: {function}() returned a {type(job).__name__}, not a job")
    return job


def _split(named: str) -> tuple[Path, str]:
    path, colon, function = named.rpartition(":")
    if colon and path.endswith(".py"):
        return Path(path), function
    return Path(named), DEFAULT_FUNCTION


def _where(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)
