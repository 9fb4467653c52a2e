"""What a run of an inference or a generation job has computed: the outputs in its final state."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from samebits.cas import CasError, Digest, Store, get_tensor, read_tree
from samebits.exec.errors import RunError
from samebits.exec.job import under
from samebits.exec.running.runner import Run

OUTPUT: Final = "output/"


def outputs(run: Run | Digest | str, store: Store) -> dict[str, NDArray[Any]]:
    """Return the outputs by name: of a run, or of a final state by its address; raises RunError if there are none."""
    state = run.final_state if isinstance(run, Run) else Digest.parse(run) if isinstance(run, str) else run
    try:
        entries = read_tree(store.get_node(state))
        found = {name: np.asarray(get_tensor(store, address)) for name, address in under(OUTPUT, entries).items()}
    except CasError as error:
        raise RunError(f"state {state}: {error}") from error
    if not found:
        raise RunError(f"state {state} has no outputs: it is not that of an inference or a generation job")
    return found
