"""Where data lie if nobody says so."""

from pathlib import Path

import platformdirs

from clgym.data.fetch import fetch
from clgym.data.root import data_root
from clgym.gym.confinement import confinement
from clgym.gym.request import Request


def test_what_is_given_comes_first_then_the_variable_then_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("CLGYM_DATA", "~/images")
    assert data_root(tmp_path) == tmp_path
    assert data_root() == Path.home() / "images"
    monkeypatch.delenv("CLGYM_DATA")
    assert data_root() == Path(platformdirs.user_data_dir("clgym"))
    monkeypatch.setenv("CLGYM_DATA", "")
    assert data_root() == Path(platformdirs.user_data_dir("clgym"))


def test_a_learner_is_kept_out_of_the_default_data_root(monkeypatch):
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    shut = confinement(Request("nmc", "split-digits"), {})
    assert shut is not None and data_root().resolve() in shut.closed


def test_fetching_and_reading_agree_on_the_folder(monkeypatch, tmp_path):
    """What `clgym fetch` leaves is found by a run without any option."""
    from dataclasses import replace

    from clgym.data import fetch as fetching
    from clgym.data.cards import CARDS
    from clgym.data.locate import locate

    monkeypatch.delenv("CLGYM_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # other tests find no such data
    card = replace(CARDS["mnist"], downloads=(("https://example.org/x.gz", "sha256:0"),))
    monkeypatch.setattr(fetching, "find_card", lambda name: card)

    def download(card, root, url, target, known_hash):
        target.write_bytes(b"x")

    monkeypatch.setattr(fetching, "_download", download)
    (arrived,) = fetch("mnist")
    assert arrived.is_relative_to(data_root())
    for half in ("train", "test"):
        (data_root() / "mnist").mkdir(parents=True, exist_ok=True)
        (data_root() / f"mnist/{half}.npz").touch()
    assert locate("mnist", None, None).path == data_root() / "mnist"
