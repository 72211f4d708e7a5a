"""A header that promises more than its file holds is refused before memory is asked for."""

import io
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.data.arrays import read_npz
from clgym.data.npy import check_header, mapped
from clgym.errors import BadSource


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def forged(shape: str, descr: str = "|u1", version: int = 1) -> bytes:
    """A file of that header and a few bytes."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + bytes(64)


FORGED = {
    "a terabyte": forged("(1099511627776,)"),
    "more than 64 bits": forged("(4611686018427387904, 4, 1, 1)"),
    "a product that wraps to 64": forged("(18446744073709551616, 0, 64)"),
    "negative": forged("(-64,)"),
    "a float": forged("(64.0,)"),
    "no tuple": forged("64"),
    "an endless header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(64),
    "deep": forged("(" * 200 + "64" + ")" * 200),
    "code": forged("__import__('os')"),
    "version 3": forged("(65,)", version=3),
    "version 9": forged("(64,)", version=9),
    "a strange type": forged("(8,)", "zz"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_header_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(FORGED[name])
    with pytest.raises(ValueError):
        mapped(tmp_path / "a.npy")


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_npz_is_refused_before_memory_is_asked_for(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", FORGED[name])
        archive.writestr("labels.npy", npy(np.zeros(2, np.int64)))
        archive.writestr("classes.npy", npy(np.array(["a"])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadSource, match="damaged|arrays"):
        read_npz(tmp_path / "a.npz", None)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@given(
    st.sampled_from(["u1", "<i8", ">f4", "<U3", "?"]),
    st.lists(st.integers(0, 4), max_size=4),
    st.booleans(),
)
def test_what_numpy_saves_passes(dtype: str, shape: list[int], fortran: bool) -> None:
    array = np.zeros(shape, dtype, order="F" if fortran else "C")
    data = npy(array)
    check_header(io.BytesIO(data), len(data))
    with pytest.raises(ValueError):
        check_header(io.BytesIO(data + b"x"), len(data) + 1)


def test_arrays_come_back_mapped_and_read_only(tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", array)
    found = mapped(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert isinstance(found, np.memmap) and not found.flags.writeable
