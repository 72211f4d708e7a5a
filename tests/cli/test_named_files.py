"""Whatever is named on the command line or in Python may be named by its file."""

import json
from pathlib import Path

import pytest

import clgym
from clgym.errors import BadPlugin, UnknownName

ZIPF = Path(__file__).resolve().parents[2] / "docs" / "examples" / "my_zipf.py"


@pytest.fixture
def source(cli, here: Path) -> Path:
    """A source of one's own, as `clgym new` writes it."""
    assert cli("new", "source", "my-images")[0] == 0
    return here / "my_images.py"


def test_a_source_goes_by_its_file(cli, source: Path) -> None:
    common = ("run", "nmc", "class-incremental", "--increments", "1", "--dry-run", "--json")
    code, by_file, err = cli(*common, "--source", source.name)
    assert code == 0, err
    code, by_name, err = cli(*common, "--source", "my-images", "--plugin", source.name)
    assert code == 0, err
    assert json.loads(by_file) == json.loads(by_name)


def test_a_source_goes_by_its_file_in_python(source: Path) -> None:
    given = clgym.make_scenario("class-incremental", source=str(source), increments=[1])
    named = clgym.make_scenario(
        "class-incremental", source="my-images", plugins=[source], increments=[1]
    )
    assert given.digest == named.digest
    with pytest.raises(UnknownName):
        clgym.make_scenario("class-incremental", source="my-images", increments=[1])


def test_a_strategys_file_is_no_source(cli, here: Path) -> None:
    assert cli("new", "strategy", "my-own")[0] == 0
    code, _, err = cli("run", "nmc", "class-incremental", "--source", "my_own.py", "--dry-run")
    assert code == 2 and "one of the sources in my_own.py" in err
    with pytest.raises(BadPlugin):
        clgym.make_scenario("class-incremental", source="my_own.py")


def test_a_scenario_goes_by_its_name_with_its_file() -> None:
    by_file = clgym.make_scenario(str(ZIPF), source="digits")
    by_name = clgym.make_scenario("my-zipf", source="digits", plugins=[ZIPF])
    assert by_file.digest == by_name.digest
