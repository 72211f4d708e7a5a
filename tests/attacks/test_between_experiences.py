"""What a plugin leaves somewhere while it learns one experience is gone when it learns the next."""

import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from clgym.data.sources import load_source
from clgym.engines import landlock, seccomp
from clgym.errors import ClgymError
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.state import read_state
from factories import copy_plugin, load_plugin

with_landlock = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
HIDDEN = load_plugin("hides_images")
BACKBONE = "vit_tiny_patch16_224[img_size=32,patch_size=8,embed_dim=32,depth=2,num_heads=4]@random"
IN_THE_PROCESS = (
    *("a module", "the environment", "a process of its own", "a thread behind a socket"),
    *("the folder of states", "a closed folder beside the states", "folders that are too deep"),
    *("attributes of the learner's folder", "a lock on standard input"),
    "the place in standard error",
)
FILTERED = (
    *("memory of the kernel", "a thread behind a socket", "attributes of its own file"),
    *("the times of its own file", "limits of another process", "flags of its own file"),
)

Found = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Generator[Found]:
    """How each way from one experience to the next ended, by the options of the run."""
    known: dict[str, dict[str, str]] = {}

    def once(backbone: str = "", **options: Any) -> dict[str, str]:
        key = f"{backbone} {options}"
        if key not in known:
            known[key] = _tried(tmp_path_factory.mktemp("run"), backbone, options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield once


def _tried(folder: Path, backbone: str, options: dict[str, Any]) -> dict[str, str]:
    # A learner in this process keeps its locks, which all processes of the machine see.
    facts = {"BACKBONE": backbone, "KEY": secrets.randbelow(2**31)}
    plugin, out = copy_plugin("hides_images", folder, **facts), folder / "out"
    named = {"out": out, "plugins": (plugin,), "threads": 1, **options}
    record = run(Request("hides-images", "split-digits", **named))
    for place in (HIDDEN.SHARED.parent, HIDDEN.BESIDE.parent):
        (place / f"hides-images-{facts['KEY']}").unlink(missing_ok=True)
    assert record.conduct is not None
    assert record.conduct.learned_apart is (record.environment.engine == "process")
    assert not (out / "learner").exists()
    state: Any = read_state(out / "state.safetensors")
    return {name: how["value"] for name, how in state["strategy"]["outcomes"]["dict"]}


@with_landlock
@pytest.mark.parametrize("place", HIDDEN.PLACES)
@pytest.mark.parametrize("backbone", ["", BACKBONE], ids=["pixels", "backbone"])
def test_images_are_gone(found: Found, place: str, backbone: str) -> None:
    if place in FILTERED and not seccomp.available():
        pytest.skip("calls of this machine are not filtered")
    assert found(backbone)[place] not in ("hidden", "GOT")


@pytest.mark.parametrize("place", IN_THE_PROCESS)
def test_what_its_process_holds_is_gone_without_a_sandbox_too(found: Found, place: str) -> None:
    assert found(sandbox="none")[place] != "GOT"


@pytest.mark.parametrize(
    "place",
    [
        *("shared memory", "the system's temporary folder", "memory of the kernel"),
        *("attributes of its own file", "the times of its own file", "limits of another process"),
    ],
)
def test_without_a_sandbox_files_stay_within_reach(found: Found, place: str) -> None:
    assert found(sandbox="none")[place] == "GOT"


@pytest.mark.parametrize("place", ["a module", "a temporary file", "a thread behind a socket"])
def test_in_one_process_everything_stays_within_reach(found: Found, place: str) -> None:
    assert found(engine="inline")[place] == "GOT"


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("sandbox", [pytest.param("auto", marks=with_landlock), "none"])
def test_the_features_of_other_images_are_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, testing: bool, sandbox: Any
) -> None:
    """Those of all images lie in the cache before the first experience."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("CLGYM_CACHE", str(cache))
    facts = {"BACKBONE": BACKBONE, "CACHE": cache, "TESTING": testing}
    plugin = copy_plugin("sees_features", tmp_path / "plugin", **facts)
    named = {"out": tmp_path / "out", "plugins": (plugin,), "threads": 1, "sandbox": sandbox}
    with pytest.raises(ClgymError) as caught:
        run(Request("sees-features", "split-digits", **named))
    source = load_source("digits")
    images = len(source.train.images) + len(source.test.images)
    got, refused = f"RuntimeError: GOT {images}", "RuntimeError: REFUSED PermissionError"
    assert caught.value.found.startswith(got if sandbox == "none" else refused)
