import pytest

from clgym.data.sources import load_source
from factories import copy_plugin


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Digits, decoded once: what a run writes besides is then its own doing."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_CACHE", str(folder))
        load_source("digits")
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch, working_folder, shared_cache):
    """An empty working directory without a data root."""
    monkeypatch.setenv("CLGYM_CACHE", str(shared_cache))
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return working_folder


@pytest.fixture
def plugin(tmp_path):
    """A strategy with options of every kind."""
    return copy_plugin("guess", tmp_path)
