"""A job that goes on from a state of a run, perhaps with something changed: a continuation, or a fork.

It is a job of its own, whose initial state is that of the run after some steps and whose first step is the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from samebits.cas import Digest, Store, get_tree, put_tensor, put_tree, tensor_info
from samebits.cas.dtype import dtype_name
from samebits.exec.devices.registry import open_device
from samebits.exec.errors import JobError, RunError
from samebits.exec.job import STATE, Job, JobSpec, check_step_count, under
from samebits.exec.keys import check_seed
from samebits.exec.machine import JobMachine, load_graph, load_spec
from samebits.exec.places.run_objects import pull_objects
from samebits.exec.places.run_places import RunPlace
from samebits.exec.places.run_reference import RunReference
from samebits.exec.running.fork_rates import change_rates, check_schedule
from samebits.exec.running.ledger_wait import Notice
from samebits.exec.running.runner import put_job
from samebits.exec.running.segments import put_state
from samebits.exec.running.state_at import check_step, state_at, stored_state
from samebits.exec.stream import EPOCH_SHUFFLE
from samebits.kernels.types import TensorType


@dataclass(frozen=True, slots=True)
class Changes:
    """What a fork has other than the job that it is made from."""

    steps: int | None = None  # the end of the job, counted from 0 like the run's; None: as it was
    data: Mapping[str, Path] = field(default_factory=dict)  # .npy files, by the names of the data
    rates: Mapping[str, float] = field(default_factory=dict)  # constant ones, by name; "": all
    seed: int | None = None  # of keys and batches


@dataclass(frozen=True, slots=True)
class Fork:
    """A job in the store that goes on from a run."""

    job: Digest
    parent: Digest  # the run
    first_step: int


def fork_run(
    reference: RunReference,
    place: RunPlace,
    store: Store,
    *,
    job: Job | Digest | None = None,
    changes: Changes | None = None,
    device: str = "numpy",
    notice: Notice | None = None,
) -> Fork:
    """Put the job that goes on from a state of a run, found at a place: after all its steps if none is named.

    `job` is the one to go on with, in place of the run's own: its state must have the tensors of the run's. What is
    missing is fetched from the place; a state that is not stored is computed again on `device` and compared with the
    run's commits. Raises LedgerError, RemoteError, JobError or RunError.
    """
    chain = place.find(reference.run).chain
    fetch = partial(pull_objects, place, store)
    fetch([chain.job])
    step = chain.next_step if reference.step is None else reference.step
    check_step(chain, step)
    with store.holding([chain.job]):
        own = chain.job if job is None else put_job(job, store)
        made = _changed(store, load_spec(own, store), changes or Changes(), step)
        types = _state_types(store, load_spec(chain.job, store))
        if own != chain.job:
            _check_state(_state_types(store, made), types)
        stored = stored_state(store, chain, step, types, fetch=fetch)
        if stored is None:  # only then does it take a device, and the time to compile for it
            machine = JobMachine(chain.job, store, open_device(device))
            state = state_at(machine, store, chain, step, fetch=fetch, notice=notice)
            stored = put_state(store, machine.download(state))
    made = replace(made, state=stored, init=None, first_step=step)
    return Fork(store.put_node(made.to_node()), reference.run, step)


def _changed(store: Store, spec: JobSpec, changes: Changes, step: int) -> JobSpec:
    """Return a job with everything changed but its state."""
    steps = spec.steps if changes.steps is None else changes.steps
    check_step_count(steps)
    if steps <= step:
        raise RunError(f"after {step} steps nothing is left to do of {steps}; --steps N gives the job a later end")
    made = replace(spec, steps=steps)
    if changes.data:
        made = replace(made, data=_change_data(store, spec, changes.data))
    if changes.rates:
        made = replace(made, schedule=change_rates(store, spec.schedule, changes.rates))
    if changes.seed is not None:
        made = replace(made, seed=check_seed(changes.seed))
        if made.stream.rule == EPOCH_SHUFFLE:
            made = replace(made, stream=replace(made.stream, seed=changes.seed))
    check_schedule(store, made.schedule, steps - 1)
    return made


def _change_data(store: Store, spec: JobSpec, files: Mapping[str, Path]) -> Digest:
    """Return the tree of a job's data with some tensors from files, of the same dtype and shape of a row."""
    entries = get_tree(store, spec.data)
    for name, path in files.items():
        if name not in entries:
            raise JobError(f"the job has no data {name!r}; it has {', '.join(entries)}")
        array = _load_array(path)
        info = tensor_info(store.get_node(entries[name]))
        found = (dtype_name(array.dtype), array.shape[1:])
        if array.ndim == 0 or found != (info.dtype, info.shape[1:]):
            given = f"{found[0]}[{','.join(map(str, array.shape))}]"
            rows = ",".join(["rows", *map(str, info.shape[1:])])
            raise JobError(f"{path} holds {given}, the job's data {name} are {info.dtype}[{rows}]")
        entries[name] = put_tensor(store, array)
    return put_tree(store, entries)


def _load_array(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise JobError(f"{path}: not a .npy file")
        dtype_name(array.dtype)
    except (JobError, OSError, MemoryError):
        raise
    except Exception as error:  # NumPy lets through what its parsers raise: TokenError, BadZipFile
        raise JobError(f"{path}: not a .npy file of plain elements") from error
    return array


def _state_types(store: Store, spec: JobSpec) -> dict[str, TensorType]:
    """Return the types of a job's state by name: of the tensors that are stored, and of those its init graph makes."""
    infos = {name: tensor_info(store.get_node(address)) for name, address in get_tree(store, spec.state).items()}
    types = {name: TensorType(info.dtype, info.shape) for name, info in infos.items()}
    if spec.init is not None:
        types |= under(STATE, load_graph(store, spec.init, "init graph").outputs)
    return types


def _check_state(wanted: Mapping[str, TensorType], given: Mapping[str, TensorType]) -> None:
    """Raise JobError naming the first tensor that the state of a job and that of a run do not have in common."""
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            found = (wanted.get(name), given.get(name))
            ours, theirs = (f"no {name}" if one is None else f"{name} as {one}" for one in found)
            raise JobError(f"the job's state has {ours}, the run's has {theirs}")
