"""The soak of tests/soak.py, cut short: what grows with steps shows already."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.soak import growth, soak

STEPS = 1_500


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_descriptors_and_threads_stay(tmp_path: Path) -> None:
    samples, _ = soak("numpy", STEPS, tmp_path)
    assert len(samples.memory_bytes) > 100
    assert growth(samples.memory_bytes) < 0.05
    assert growth(samples.descriptors) < 0.1  # some are open for a moment; one leaked each segment would be more
    assert max(samples.threads) <= min(samples.threads) + 1
