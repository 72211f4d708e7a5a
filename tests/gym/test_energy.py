"""Energy by the counters of a processor, written by hand as Linux shows them."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clgym.gym.energy import EnergyMeter


def package(folder: Path, number: int, energy: int, limit: int = 1_000_000_000) -> Path:
    """A package's counter, in microjoules, and the value at which it begins anew."""
    place = folder / f"intel-rapl:{number}"
    place.mkdir(exist_ok=True)
    (place / "energy_uj").write_text(f"{energy}\n")
    (place / "max_energy_range_uj").write_text(f"{limit}\n")
    return place


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(EnergyMeter, "powercap", tmp_path)
    return tmp_path


def test_packages_are_added_up_and_their_parts_are_not(powercap: Path) -> None:
    package(powercap, 0, 1_000_000)
    package(powercap, 1, 5_000_000)
    (powercap / "intel-rapl:0:0").mkdir()
    (powercap / "intel-rapl:0:0/energy_uj").write_text("0")
    meter = EnergyMeter()
    package(powercap, 0, 3_000_000)
    package(powercap, 1, 5_500_000)
    (powercap / "intel-rapl:0:0/energy_uj").write_text("900000000")
    assert meter.take() == {"processor": pytest.approx(2.5)}
    assert meter.take() == {"processor": pytest.approx(0.0)}


def test_a_counter_that_began_anew_goes_on(powercap: Path) -> None:
    package(powercap, 0, 990_000_000)
    meter = EnergyMeter()
    package(powercap, 0, 20_000_000)
    assert meter.take() == {"processor": pytest.approx(30.0)}


def test_what_cannot_be_read_gives_no_number(powercap: Path) -> None:
    assert EnergyMeter().take() == {}
    package(powercap, 0, 1).joinpath("energy_uj").write_text("not a number")
    meter = EnergyMeter(gpu="no-such-gpu")
    assert meter.take() == {}


def test_a_gpu_is_read_by_its_identity(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's binding, played by hand: it counts in millijoules."""
    readings = iter([1_000, 1_000, 4_500])
    binding = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"GPU-one": next(readings)}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", binding)
    assert EnergyMeter(gpu="one").take() == {"gpu": pytest.approx(3.5)}
