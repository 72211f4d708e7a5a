"""What an image file of each mode is read as: values from NumPy, formulas and Pillow's own."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clgym.data.pixels import decoded, fit, survey
from clgym.data.sources import load_source
from clgym.errors import BadSource

SHORT, LONG = 3, 4  # types of TIFF fields


def tiff(
    path: Path,
    values: np.ndarray,
    *,
    order: Literal["<", ">"] = "<",
    white_is_zero=False,
    bits=None,
) -> None:
    """A grey TIFF file of one strip, written field by field."""
    size = bits or 8 * values.dtype.itemsize
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if size == 12:
        text = "".join(f"{v:012b}" for v in values.ravel())
        data = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8))
    height, width = values.shape
    kinds = {"u": 1, "i": 2, "f": 3}
    fields = [
        (256, LONG, width),
        (257, LONG, height),
        (258, SHORT, size),
        (259, SHORT, 1),
        (262, SHORT, 0 if white_is_zero else 1),
        (273, LONG, 8),
        (277, SHORT, 1),
        (278, LONG, height),
        (279, LONG, len(data)),
        (339, SHORT, kinds[values.dtype.kind]),
    ]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(data))
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1)
        + struct.pack(f"{order}{'H2x' if kind == SHORT else 'I'}", value)
        for tag, kind, value in fields
    )
    ifd = struct.pack(f"{order}H", len(fields)) + entries + bytes(4)
    path.write_bytes(head + data + ifd)


def grey(path: Path, side: int = 0) -> np.ndarray:
    """One channel of a file, all three being alike, at its own size unless a side is given."""
    with Image.open(path) as image:
        side = side or image.height
    (pixels,) = decoded([path], side)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def copies(folder: Path, pixels: np.ndarray) -> dict[str, Path]:
    """The same picture in every deep form that Pillow or a scanner writes."""
    deep = pixels.astype(np.uint16) * 257
    paths = {
        name: folder / f"{name.replace(' ', '-')}.{name.split()[-1]}"
        for name in (
            "16-bit png",
            "16-bit pgm",
            "16-bit tif",
            "big-endian tif",
            "32-bit tif",
            "float tif",
            "big-endian float tif",
            "inverted tif",
        )
    }
    Image.fromarray(deep).save(paths["16-bit png"])
    Image.fromarray(deep).save(paths["16-bit pgm"])
    Image.fromarray(deep).save(paths["16-bit tif"])
    tiff(paths["big-endian tif"], deep, order=">")
    Image.fromarray(deep.astype(np.int32)).save(paths["32-bit tif"])
    Image.fromarray((pixels / 255).astype(np.float32)).save(paths["float tif"])
    tiff(paths["big-endian float tif"], (pixels / 255).astype(np.float32), order=">")
    tiff(paths["inverted tif"], 65535 - deep, white_is_zero=True)
    return paths


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.booleans())
def test_deep_copies_are_the_eight_bit_image(tmp_path_factory, seed, side, resized):
    folder = tmp_path_factory.mktemp("copies")
    # White somewhere: the greatest value of a 16-bit file must not be below 256.
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(folder / "eight.png")
    wanted = grey(folder / "eight.png", 2 * side if resized else side)
    assert resized or (wanted == pixels).all()
    for name, path in copies(folder, pixels).items():
        found = grey(path, len(wanted))
        # Inverting is done behind the scaling: 65535 - 257 x is the copy of 255 - x.
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_every_16_bit_value_is_scaled_exactly(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "all.png")
    wanted = [round(Fraction(v * 255, 65535)) for v in range(65536)]
    assert grey(tmp_path / "all.png").ravel().tolist() == wanted


def test_twelve_bits_have_their_own_range(tmp_path):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    tiff(tmp_path / "scan.tif", values, bits=12)
    wanted = [round(Fraction(v * 255, 4095)) for v in range(4096)]
    assert grey(tmp_path / "scan.tif").ravel().tolist() == wanted


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0, 1.5]], np.float32), "0 to 1.5"),
        (np.array([[-0.1, 1]], np.float32), "-0.1 to 1"),
        (np.array([[0.5, np.nan]], np.float32), "nan"),
        (np.array([[0, np.inf]], np.float32), "inf"),
        (np.array([[0, 255]], np.float32), "0 to 255"),
        (np.array([[-1, 40000]], np.int32), "-1 to 40000"),
        (np.array([[0, 65536]], np.int32), "0 to 65536"),
        (np.array([[0, 200]], np.int32), "0 to 200"),
        (np.array([[3, 255]], np.uint16), "3 to 255"),
    ],
)
def test_values_of_no_known_range_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "odd.tif")
    with pytest.raises(BadSource, match=r"odd\.tif \(mode (F|I|I;16)\)") as caught:
        grey(tmp_path / "odd.tif")
    assert words in str(caught.value)


def test_black_is_black_at_any_depth(tmp_path):
    for number, kind in enumerate((np.uint16, np.int32, np.float32)):
        Image.fromarray(np.zeros((3, 3), kind)).save(tmp_path / f"{number}.tif")
        assert not grey(tmp_path / f"{number}.tif").any()


def test_an_unknown_mode_is_named(tmp_path):
    Image.merge("LAB", [Image.new("L", (3, 3), 9)] * 3).save(tmp_path / "odd.tif")
    with pytest.raises(BadSource, match=r"odd\.tif.*mode LAB"):
        decoded([tmp_path / "odd.tif"], 3)


def test_a_tree_of_float_images_holds_them(tmp_path):
    generator, wanted = np.random.default_rng(0), set()
    for name in ("cat", "dog"):
        (tmp_path / "t" / name).mkdir(parents=True)
        for i in range(5):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            wanted.add(np.repeat(pixels[..., None], 3, 2).tobytes())
            image = Image.fromarray((pixels / 255).astype(np.float32))
            image.save(tmp_path / "t" / name / f"{i}.tiff")
    source = load_source(f"folder:{tmp_path / 't'}")
    assert {i.tobytes() for i in (*source.train.images, *source.test.images)} == wanted


# --- alpha ---------------------------------------------------------------------------------------


def shape(seed: int) -> np.ndarray:
    """A drawing: 255 where something is."""
    return 255 * np.random.default_rng(seed).integers(0, 2, (6, 6)).astype(np.uint8)


def rgba(colour: int, alpha: np.ndarray) -> Image.Image:
    flat = np.full((*alpha.shape, 3), colour, np.uint8)
    return Image.fromarray(np.concatenate([flat, alpha[..., None]], axis=2))


def test_black_drawn_in_alpha_is_black_on_white(tmp_path):
    rgba(0, shape(0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(grey(tmp_path / "a.png"), 255 - shape(0))


def test_white_drawn_in_alpha_is_white_on_black(tmp_path):
    rgba(255, shape(0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(grey(tmp_path / "a.png"), shape(0))


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 6, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    share = pixels[..., 3:] / 255
    wanted = share * pixels[..., :3] + (1 - share) * 255
    assert np.abs(decoded([tmp_path / "a.png"], 6)[0] - wanted).max() <= 1


@pytest.mark.parametrize("alpha", [0, 255])
def test_alpha_that_says_nothing_leaves_the_colours(tmp_path, alpha):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    pixels[..., 3] = alpha
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decoded([tmp_path / "a.png"], 6)[0], pixels[..., :3])


def test_grey_and_palette_alpha_follow_the_same_rule(tmp_path):
    drawn = shape(1)
    flat = np.zeros_like(drawn)
    Image.merge("LA", [Image.fromarray(flat), Image.fromarray(drawn)]).save(tmp_path / "la.png")
    # Place 1 of the palette is transparent; its colour is red.
    image = Image.fromarray((drawn == 0).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "p.png", transparency=1)
    for name in ("la.png", "p.png"):
        np.testing.assert_array_equal(grey(tmp_path / name), 255 - drawn, err_msg=name)


# --- other modes ---------------------------------------------------------------------------------


def test_one_bit_is_black_and_white(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (9, 9)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(grey(tmp_path / "a.png"), 255 * bits)


def test_a_palette_gives_its_colours(tmp_path):
    generator = np.random.default_rng(0)
    palette, places = generator.integers(0, 256, (7, 3)), generator.integers(0, 7, (5, 5))
    image = Image.fromarray(places.astype(np.uint8)).convert("P")
    image.putpalette(palette.ravel().tolist())
    for name in ("a.png", "a.gif"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(decoded([tmp_path / name], 5)[0], palette[places])


def test_cmyk_by_the_plain_formula(tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (6, 6), inks.tobytes()).save(tmp_path / "a.tif")
    rest = 255 - inks.astype(int)
    wanted = rest[..., :3] * rest[..., 3:] / 255
    assert np.abs(decoded([tmp_path / "a.tif"], 6)[0] - wanted).max() <= 1


def test_16_bit_colours_are_the_high_byte(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    # PPM of 16 bits, big-endian: value x 257 is the byte twice.
    data = np.repeat(pixels, 2).tobytes()
    (tmp_path / "a.ppm").write_bytes(b"P6 4 4 65535\n" + data)
    np.testing.assert_array_equal(decoded([tmp_path / "a.ppm"], 4)[0], pixels)


def test_exif_orientation_is_counted_and_not_applied(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "t", size=(16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in list(pixels)[:3]:
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif, quality=95)
        wanted = np.asarray(Image.open(path.with_suffix(".jpg")).convert("RGB"))
        np.testing.assert_array_equal(decoded([path.with_suffix(".jpg")], 16)[0], wanted)
        path.unlink()
    source = load_source(f"folder:{tmp_path / 't'}")
    assert "3 files with an EXIF orientation, which is not applied" in source.flags


def test_a_tiff_tag_of_orientation_turns_the_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={274: 6})
    # Value 6: the first row of the file is the last column of the picture.
    wanted = np.rot90(pixels, -1)
    assert survey([tmp_path / "a.tif"]).sizes == (wanted.shape[:2],)
    np.testing.assert_array_equal(
        decoded([tmp_path / "a.tif"], 4)[0], fit(Image.fromarray(np.ascontiguousarray(wanted)), 4)
    )


def test_of_several_frames_the_first_is_taken(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "t", size=(8, 8))
    drawn = [Image.fromarray(shape(i)).resize((8, 8), Image.Resampling.NEAREST) for i in range(3)]
    for name in ("a.gif", "a.tif", "a.webp"):
        options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
        place = tmp_path / "t" / "cat" / name
        drawn[0].save(place, save_all=True, append_images=drawn[1:], **options)
        np.testing.assert_array_equal(grey(place), np.asarray(drawn[0]), err_msg=name)
    source = load_source(f"folder:{tmp_path / 't'}")
    assert "3 files of several frames: the first is taken" in source.flags
    assert len(source.train.labels) + len(source.test.labels) == len(pixels) + 3


def test_one_tree_may_hold_files_of_many_modes(tmp_path):
    pixels = np.full((8, 8), 255, np.uint8) * np.eye(8, dtype=np.uint8)
    (tmp_path / "t" / "a").mkdir(parents=True)
    for path in copies(tmp_path / "t" / "a", pixels).values():
        assert path.is_file()
    Image.fromarray(pixels).save(tmp_path / "t" / "a" / "eight.BMP")
    (tmp_path / "t" / "b").mkdir()
    for i in range(5):
        Image.fromarray(shape(i)).resize((8, 8)).convert("CMYK").save(
            tmp_path / "t" / "b" / f"{i}.JPG"
        )
    source = load_source(f"folder:{tmp_path / 't'}")
    # Nine forms of one picture are copies: all of them are on one side.
    hashes = {bytes(h) for h in source.train.hashes[source.train.labels == 0]}
    assert len(hashes) == 1 and 0 not in source.test.labels
