"""Utilisation of a GPU, by a driver that is played by hand."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.utilisation import UtilisationMeter
from clgym.learner import entrance
from clgym.learner.entrance import Learner
from clgym.results.consistency import impossible_numbers


class Driver:
    """NVIDIA's binding: the GPU ``one`` has the given utilisation in percent, then none.

    Attributes:
        asked: Set when the last one was read; the first is read when the meter begins.
    """

    def __init__(self, *percent: int) -> None:
        self._left, self.asked = list(percent), threading.Event()
        self.binding = SimpleNamespace(
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByUUID=lambda name: name,
            nvmlDeviceGetUtilizationRates=self._read,
        )

    def _read(self, handle: str) -> SimpleNamespace:
        assert handle == "GPU-one"
        if not self._left:
            self.asked.set()
            raise RuntimeError("not supported")
        return SimpleNamespace(gpu=self._left.pop(0), memory=99)


def install(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver.binding)
    monkeypatch.setattr(UtilisationMeter, "interval", 0)


def test_samples_are_shares_until_the_driver_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(100, 40, 60)
    install(driver, monkeypatch)
    meter, before = UtilisationMeter("one"), threading.active_count()
    with meter.measured():
        assert driver.asked.wait(60)
    meter.close()
    assert threading.active_count() == before
    assert meter.take() == [0.4, 0.6]
    assert meter.take() == []


def test_a_gpu_that_reports_none_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    install(Driver(), monkeypatch)
    before = threading.active_count()
    for meter in (UtilisationMeter("one"), UtilisationMeter()):
        with meter.measured():
            assert threading.active_count() == before
        assert meter.take() == []


@pytest.mark.parametrize("identity", ["one", ""])
def test_a_record_has_the_mean_over_training(
    identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, train = Driver(100, 20, 90), Learner._train  # type: ignore[attr-defined]
    install(driver, monkeypatch)

    def trained(self: Learner, request: Any) -> Any:
        assert not identity or driver.asked.wait(60)
        return train(self, request)

    monkeypatch.setattr(Learner, "_train", trained)
    monkeypatch.setattr(entrance, "identity_of_device", lambda device: identity)
    out, before = tmp_path / "run", threading.active_count()
    record = run(Request("nmc", "split-digits", engine="inline", threads=1, part=(0, 1), out=out))
    assert record.cost.gpu_utilisation == (pytest.approx(0.55) if identity else None)
    assert threading.active_count() == before
    above = record.cost.model_copy(update={"gpu_utilisation": 1.5})
    found = list(impossible_numbers(record.model_copy(update={"cost": above})))
    assert found == ["gpu_utilisation is above 1"]
