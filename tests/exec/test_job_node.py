"""The job node: every field goes there and back, and anything malformed is refused."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pytest

from samebits.cas import Digest, Node
from samebits.exec.errors import JobError
from samebits.exec.job import Check, JobSpec
from samebits.exec.stream import Stream

ADDRESS = Digest(bytes(range(32)))
SPEC = JobSpec(ADDRESS, ADDRESS, ADDRESS, Stream(4, 3), 7, "1")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 2**64 - 1},
        {"init": ADDRESS, "schedule": ADDRESS},
        {"check": Check(done=False)},
        {"check": Check(tolerance=0.25)},
        {"stream": Stream(4, 0, "in_order")},
    ],
)
def test_job_nodes_round_trip(changes: dict[str, Any]) -> None:
    spec = dataclasses.replace(SPEC, **changes)
    assert JobSpec.from_node(spec.to_node()) == spec
    assert (spec.to_node() == SPEC.to_node()) == (not changes)


def packed(number: float) -> list[Any]:
    return ["f64", struct.pack("<d", number)]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *(("seed", bad, "seed") for bad in (-1, 2**64, None, True, "0", 1.0)),
        *((name, bad, "fields") for name in ("init", "schedule") for bad in (b"x" * 32, "none", 0, [ADDRESS])),
        *(("check", bad, "check is nil") for bad in (True, "no", 0.5, ["f64", b"1234567"], ["f32", b"1234"], ["f64"])),
        *(("check", packed(bad), "check is nil") for bad in (0.0, -1.0, float("nan"), float("inf"))),
        ("stream", {"rule": "in_order", "batch_size": 4, "seed": 1}, "seed 1 is not an integer in 0 .. 0"),
        ("stream", {"rule": "random", "batch_size": 4, "seed": 1}, "unknown stream rule"),
        ("more", 1, "fields"),
    ],
)
def test_malformed_job_nodes_are_refused(field: str, value: Any, message: str) -> None:
    node = SPEC.to_node()
    with pytest.raises(JobError, match=message):
        JobSpec.from_node(Node(node.kind, {**node.body, field: value}))


@pytest.mark.parametrize("field", ["seed", "init", "schedule", "check"])
def test_job_nodes_lack_no_field(field: str) -> None:
    body = {name: value for name, value in SPEC.to_node().body.items() if name != field}
    with pytest.raises(JobError, match="a job has the fields"):
        JobSpec.from_node(Node("job", body))
