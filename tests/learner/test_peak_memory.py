"""The peak of a run is the run's, not that of what its process did before."""

from pathlib import Path

import numpy as np
import pytest

from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner import peak_memory
from clgym.learner.peak_memory import forget_peak, peak_bytes, resident_bytes

LARGE = 600 * 2**20


@pytest.fixture(autouse=True)
def _can_forget() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system cannot reset a process's peak")


def occupy() -> None:
    """Hold so much for a moment."""
    assert np.ones(LARGE, np.uint8).sum() == LARGE


def test_the_peak_memory_is_reset_at_the_start() -> None:
    before = peak_bytes()
    occupy()
    high = peak_bytes()
    assert high >= LARGE
    forget_peak()
    assert peak_bytes() < high - LARGE // 2
    assert peak_bytes() >= min(before, 2**20)


def test_a_run_does_not_count_what_was_before_it(tmp_path: Path) -> None:
    occupy()
    high = peak_bytes()
    record = run(Request("nmc", "split-digits", out=tmp_path / "run", engine="inline"))
    assert 0 < record.cost.peak_memory_bytes < high - LARGE // 2


def test_without_linux_the_peak_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: the system knows the peak since the process began, and not what is resident."""
    monkeypatch.setattr(peak_memory, "_STATUS", Path("/no/such/file"))
    before = peak_bytes()
    assert before == resident_bytes() > 2**20
    occupy()
    assert peak_bytes() >= max(before, LARGE)
