"""A folder of images: exact pixels, ids that survive, and one refusal for each way a folder can be wrong."""

from __future__ import annotations

import hashlib
import struct
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeproof.data.image_folder import ImageFolder
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.limits import IMAGE_PIXELS, IMAGES_BYTES


def put(path: Path, value: int = 0, *, size: tuple[int, int] = (3, 2)) -> Path:
    """A lossless RGB image of (width, height) `size` whose three channels are value, value + 1 and value + 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value + 1, value + 2)).save(path, format="PNG")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, three training images and one test image each."""
    folder = tmp_path / "pets"
    for label, name in enumerate(("cat", "dog")):
        for k in range(3):
            put(folder / "train" / name / f"{k}.png", 100 * label + 10 * k)
        put(folder / "test" / name / "0.png", 100 * label + 50)
    return folder


def refused(root: Path, split: str = "train", limit: int | None = None) -> str:
    with pytest.raises(SpikeproofError) as caught:
        ImageFolder(str(root)).load(split, limit)
    assert not isinstance(caught.value, UsageError)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a" * 201, "\udcff"], ids=ascii)
def test_a_class_that_no_terminal_should_print_is_refused(root: Path, name: str) -> None:
    put(root / "train" / name / "0.png")
    with pytest.raises(UsageError, match="the name of a class") as error:
        ImageFolder(str(root)).load("train")
    str(error.value).encode()


def test_pixels_labels_classes_and_name(root: Path) -> None:
    train, test = (ImageFolder(str(root)).load(split) for split in ("train", "test"))
    assert train.pixels.shape == (6, 3, 2, 3)
    assert train.pixels[:, :, 0, 0].tolist() == [[v, v + 1, v + 2] for v in (0, 10, 20, 100, 110, 120)]
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.pixels[:, 0, 0, 0].tolist() == [50, 150]
    assert test.labels.tolist() == [0, 1]
    for images in (train, test):
        assert images.classes == ("cat", "dog")
        assert images.name == "pets"
        assert images.scale == 255
    assert not set(train.ids.tolist()) & set(test.ids.tolist())


@pytest.mark.parametrize("size", [(5, 3), (160, 128)], ids=["in one thread", "in two"])
def test_rows_columns_and_channels_keep_their_places(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    arrays = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    for k, array in enumerate(arrays):
        for split in ("train", "test"):
            path = tmp_path / split / "only" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    images = ImageFolder(str(tmp_path)).load("train")
    assert np.array_equal(images.pixels.numpy(), arrays.transpose(0, 3, 1, 2))
    x, _, _ = images.at(torch.arange(5))
    assert np.array_equal(x.numpy(), arrays.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def test_suffixes_in_any_case_and_hidden_files(root: Path) -> None:
    cat = root / "train" / "cat"
    for name in ("a.JPG", "b.jpeg", "c.Png"):
        Image.new("L", (3, 2), 128).save(cat / name, format="PNG" if name == "c.Png" else "JPEG")
    (cat / ".DS_Store").write_bytes(b"not an image")
    (root / "train" / ".cache").mkdir()
    (root / "README.txt").write_text("beside the splits anything may lie")
    images = ImageFolder(str(root)).load("train")
    assert images.labels.tolist() == [0] * 6 + [1] * 3
    assert images.pixels[3:6].int().sub(128).abs().max() <= 1


def test_one_channel_is_the_luma(root: Path) -> None:
    path = root / "train" / "cat" / "0.png"
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 9, 9]] * 3], dtype=np.uint8)).save(path)
    images = ImageFolder(str(root), channels=1).load("train")
    assert images.pixels.shape == (6, 1, 2, 3)
    assert images.pixels[0, 0].tolist() == [[76, 150, 29], [9, 9, 9]]  # ITU-R 601: 0.299 R + 0.587 G + 0.114 B


def test_palettes_grey_and_alpha_decode_to_their_colours(root: Path) -> None:
    cat = root / "train" / "cat"
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 7, 8, 9])
    palette.save(cat / "0.png", transparency=b"\x00\x80")
    Image.new("RGBA", (3, 2), (7, 8, 9, 100)).save(cat / "1.png")
    Image.new("L", (3, 2), 5).save(cat / "2.png")
    images = ImageFolder(str(root)).load("train")
    assert images.pixels[:3, :, 1, 2].tolist() == [[7, 8, 9], [7, 8, 9], [5, 5, 5]]


def test_ids_are_a_hash_of_the_place(root: Path) -> None:
    expected = int.from_bytes(hashlib.sha256(b"test/cat/0.png").digest()[:8], "little") >> 1
    assert ImageFolder(str(root)).load("test").ids[0].item() == expected


def test_ids_survive_adding_images_and_moving_the_folder(root: Path, tmp_path: Path) -> None:
    before = ImageFolder(str(root)).load("train")
    old = dict(zip(before.pixels[:, 0, 0, 0].tolist(), before.ids.tolist(), strict=True))
    put(root / "train" / "cat" / "00.png", 200)
    put(root / "train" / "ant" / "0.png", 210)
    put(root / "test" / "ant" / "0.png", 211)
    moved = root.rename(tmp_path / "zoo")
    after = ImageFolder(str(moved)).load("train")
    new = dict(zip(after.pixels[:, 0, 0, 0].tolist(), after.ids.tolist(), strict=True))
    assert len(new) == 8
    assert old.items() <= new.items()
    assert after.name == "zoo"


def test_a_relative_root_has_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert ImageFolder(".").load("test").name == "pets"
    monkeypatch.chdir(root / "train")
    assert ImageFolder("..").load("test").name == "pets"


def test_only_the_files_chosen_by_the_limit_are_decoded(root: Path) -> None:
    data = ImageFolder(str(root))
    small, large = data.load("train", 2), data.load("train", 4)
    assert small.labels.tolist() == [0, 1]
    assert large.labels.tolist() == [0, 0, 1, 1]
    assert set(small.ids.tolist()) < set(large.ids.tolist())
    chosen = set(small.pixels[:, 0, 0, 0].tolist())
    for label, name in enumerate(("cat", "dog")):
        for k in range(3):
            if 100 * label + 10 * k not in chosen:
                (root / "train" / name / f"{k}.png").write_bytes(b"broken")
    assert data.load("train", 2).digest() == small.digest()
    assert "whole JPEG or PNG" in refused(root, limit=4)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_folder_is_named_whichever_is_loaded(root: Path, split: str) -> None:
    (root / "test").rename(root / "elsewhere")
    assert f"expected a folder {root / 'test'}" in refused(root, split)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere" / "train") in refused(tmp_path / "nowhere")


def test_no_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert f"class folders in {tmp_path / 'train'}, got none" in refused(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_class_folder(root: Path, split: str) -> None:
    (root / split / "eel").mkdir()
    assert f"images in {root / split / 'eel'}, got none" in refused(root)


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_that_differ_between_the_splits(root: Path, split: str) -> None:
    put(root / split / "eel" / "0.png")
    message = refused(root)
    assert "the same classes" in message
    assert "a difference in eel" in message


def test_a_stray_file_in_a_class_folder(root: Path) -> None:
    (root / "train" / "dog" / "notes.txt").write_text("good dog")
    assert f"only images in {root / 'train' / 'dog'}, got notes.txt" in refused(root)


def test_a_folder_in_a_class_folder(root: Path) -> None:
    (root / "train" / "dog" / "puppies.png").mkdir()
    assert "got puppies.png" in refused(root)


def test_an_image_outside_the_class_folders(root: Path) -> None:
    put(root / "train" / "lost.png")
    assert "got the file lost.png" in refused(root)


def test_a_broken_image_is_named(root: Path) -> None:
    path = root / "train" / "dog" / "1.png"
    path.write_bytes(b"not an image at all")
    assert str(path) in refused(root)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_is_named(root: Path, kind: str, first: bool) -> None:
    path = root / "train" / ("cat" if first else "dog") / ("0.png" if first else "1.png")
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - (30 if kind == "PNG" else 12)])
    message = refused(root)
    assert f"a whole JPEG or PNG in {path}" in message
    assert "mend: replace or delete it" in message


def test_another_format_under_a_known_suffix(root: Path) -> None:
    path = root / "train" / "dog" / "1.png"
    Image.new("RGB", (3, 2)).save(path, format="BMP")
    assert str(path) in refused(root)


def test_sixteen_bits_are_refused_rather_than_clipped(root: Path) -> None:
    path = root / "train" / "dog" / "1.png"
    Image.fromarray(np.full((2, 3), 1000, dtype=np.uint16)).save(path)
    assert f"8 bits a channel in {path}" in refused(root)


def test_mixed_sizes_name_both_files(root: Path) -> None:
    other = put(root / "train" / "dog" / "2.png", size=(2, 3))
    assert f"{root / 'train' / 'cat' / '0.png'} is 3x2, {other} is 2x3" in refused(root)


def test_two_names_that_are_one_after_normalisation(root: Path) -> None:
    accented = [put(root / "train" / "cat" / name) for name in ("caf\u00e9.png", "cafe\u0301.png")]
    if len(set(accented[0].parent.iterdir())) < 5:
        pytest.skip("this file system keeps one of the two names only")
    message = refused(root)
    assert "the same id for" in message
    assert all(str(path) in message for path in accented)


@pytest.mark.parametrize("limit", [4, 2], ids=["Pillow warns", "Pillow refuses"])
def test_a_decompression_bomb_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    path = str(root / "train" / "cat" / "0.png")
    assert path in refused(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert path in refused(root)


def claiming(path: Path, width: int, height: int) -> None:
    """A PNG whose header says so, and which holds no pixel."""
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    )


@pytest.mark.parametrize(("side", "count"), [(9000, 24), (4097, 1), (4096, 40)])
def test_images_of_too_many_pixels_are_refused_by_their_headers(tmp_path: Path, side: int, count: int) -> None:
    for n in range(count):
        claiming(tmp_path / "train" / "only" / f"{n:02}.png", side, side)
    put(tmp_path / "test" / "only" / "0.png")
    started = time.process_time()
    tracemalloc.start()
    message = refused(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
    assert time.process_time() - started < 1.0
    if count * side * side * 3 > IMAGES_BYTES and side * side <= IMAGE_PIXELS:
        assert f"images of at most {IMAGES_BYTES} bytes" in message
    else:
        assert f"{side}x{side} pixels, more than {IMAGE_PIXELS}" in message


def test_usage_errors(root: Path) -> None:
    with pytest.raises(UsageError, match="valid: 1, 3"):
        ImageFolder(str(root), channels=4)
    with pytest.raises(UsageError, match="valid: train, test"):
        ImageFolder(str(root)).load("val")  # type: ignore[arg-type]
    for limit in (0, 7):
        with pytest.raises(UsageError, match=r"1\.\.6"):
            ImageFolder(str(root)).load("train", limit)
