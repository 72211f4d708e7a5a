"""Another distribution's plugins: installed with pip beside a wheel of clgym, listed and run."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = Path(__file__).with_name("sample")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with both wheels; big dependencies come from the one that runs this."""
    folder = tmp_path_factory.mktemp("distribution")
    wheels = folder / "wheels"
    for source in (ROOT, SAMPLE):
        build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
        wheels.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", build, str(wheels)], cwd=source, check=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(site, "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [python, "-m", "pip", "install", "--no-index", "--no-deps", "--ignore-installed"]
    subprocess.run([*install, *wheels.glob("*.whl")], check=True, capture_output=True)
    return python


def _clgym(python: Path, folder: Path, *words: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-m", "clgym", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_plugins_of_another_distribution_are_listed_and_run(python: Path, tmp_path: Path) -> None:
    listed = _clgym(python, tmp_path, "list")
    assert "sample-mean" in listed and "[clgym-sample]" in listed
    assert "sample-stream" in listed and "sample-stripes" in listed
    assert "cannot be used: ModuleNotFoundError: No module named 'a_package_nobody_has'" in listed
    assert "nmc" in listed
    run = _clgym(python, tmp_path, "run", "sample-mean", "split-digits", "--out", "out")
    assert "last accuracy" in run
    words = ["--source", "sample-stripes", "--increments", "1", "--out", "other"]
    _clgym(python, tmp_path, "run", "sample-mean", "sample-stream", *words)
    assert (tmp_path / "out" / "record.json").is_file()
