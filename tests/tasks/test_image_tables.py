"""csv files: the folder and the part decide which image a name means, and bad tables are named."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.tasks.pictures import draw, images


def grey(path, shade) -> None:
    draw(path, np.full((8, 8, 3), shade, np.uint8))


def table(root, rows, part="train") -> None:
    (root / f"{part}.csv").write_text("\n".join(["filename,label", *rows]))


def shades(root, **options) -> list[list[int]]:
    """The grey levels of each training class."""
    x, y = images(root, **options)._arrays["train"]
    return [sorted(set(x[y == kind].ravel().tolist())) for kind in range(y.max() + 1)]


@pytest.mark.parametrize("place", ["{n}", "images/{n}", "data/{n}", "images/train/{n}", "train/{n}", "photos/jpg/{n}"])
def test_an_image_is_found_where_csv_layouts_have_it(tmp_path, place):
    grey(tmp_path / place.format(n="a.png"), 10)
    grey(tmp_path / place.format(n="b.png"), 20)
    table(tmp_path, ["a.png,cat", "b.png,dog"])
    assert shades(tmp_path) == [[10], [20]]


@pytest.mark.parametrize(
    "place", ["{k}", "images/{k}", "data/{k}", "images/train/{k}", "train/{k}", "photos/{k}", "photos/train/{k}/x"]
)
def test_equal_names_are_told_apart_by_the_class_folder(tmp_path, place):
    for shade, kind in ((10, "cat"), (20, "dog")):
        for i in range(2):
            grey(tmp_path / place.format(k=kind) / f"{i}.png", shade)
    table(tmp_path, [f"{i}.png,{kind}" for kind in ("cat", "dog") for i in range(2)])
    assert shades(tmp_path) == [[10], [20]]


@pytest.mark.parametrize("place", ["{part}", "images/{part}", "photos/{part}", "photos/{part}/x"])
def test_equal_names_are_told_apart_by_the_part(tmp_path, place):
    for n, part in enumerate(("train", "val", "test")):
        for i in range(2):
            grey(tmp_path / place.format(part=part) / f"{i}.png", 10 * n + i)
        table(tmp_path, ["0.png,cat" + part, "1.png,dog" + part], part)
    arrays = images(tmp_path)._arrays
    assert {part: sorted(set(x.ravel().tolist())) for part, (x, _) in arrays.items()} == {
        "train": [0, 1],
        "validation": [10, 11],
        "test": [20, 21],
    }


@pytest.mark.parametrize("written", ["b/{i}.png", "./b/{i}.png", "photos/b/{i}.png"])
def test_the_written_folder_decides(tmp_path, written):
    for shade, folder in ((10, "a"), (20, "b"), (30, "c")):
        for i in range(2):
            grey(tmp_path / "photos" / folder / f"{i}.png", shade + i)
    table(tmp_path, [written.format(i=i) + f",{kind}" for i, kind in enumerate(("cat", "dog"))])
    assert shades(tmp_path) == [[20], [21]]


@pytest.mark.parametrize(
    "places",
    [
        ("photos/a/0.png", "photos/b/0.png"),
        ("0.png", "images/0.png"),
        ("images/0.png", "data/0.png"),
        ("images/0.png", "images/cat/0.png"),
        ("train/0.png", "images/train/0.png"),
    ],
)
def test_several_fits_are_an_error(tmp_path, places):
    for place in places:
        grey(tmp_path / place, 10)
    table(tmp_path, ["0.png,cat"])
    with pytest.raises(ValueError, match=r"train\.csv names 0\.png, of class cat, which must fit one file, not "):
        images(tmp_path)


def test_a_link_is_no_second_fit(tmp_path):
    grey(tmp_path / "images" / "0.png", 10)
    (tmp_path / "0.png").symlink_to(tmp_path / "images" / "0.png")
    table(tmp_path, ["0.png,cat"])
    assert shades(tmp_path) == [[10]]


@pytest.mark.parametrize(
    ("place", "row"),
    [
        ("photos/val/0.png", "0.png,cat"),
        ("test/0.png", "0.png,cat"),
        ("photos/dog/0.png", "0.png,cat"),
        ("images/dog/0.png", "0.png,cat"),
        ("other/b/0.png", "a/0.png,cat"),
    ],
)
def test_another_part_s_or_class_s_image_is_never_taken(tmp_path, place, row):
    grey(tmp_path / place, 10)
    grey(tmp_path / "images" / "1.png", 20)
    table(tmp_path, [row, "1.png,dog"])
    with pytest.raises(FileNotFoundError, match=r"train\.csv names (a/)?0\.png, which must lie below"):
        images(tmp_path)


@pytest.mark.parametrize("again", ["0.png", "./0.png", "images/0.png", "link.png", "hard.png"])
def test_an_image_listed_twice_is_one_sample(tmp_path, again):
    for i in range(2):
        grey(tmp_path / "images" / f"{i}.png", i)
        grey(tmp_path / "images" / f"dog{i}.png", 10 + i)
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "images" / "0.png")
    os.link(tmp_path / "images" / "0.png", tmp_path / "images" / "hard.png")
    table(tmp_path, ["0.png,cat", "1.png,cat", f"{again},cat", "dog0.png,dog", "dog1.png,dog"])
    batch = images(tmp_path).train.sample(40, seed=0)
    for support, query in zip(batch.x_support, batch.x_query, strict=True):
        assert not {x.tobytes() for x in support} & {x.tobytes() for x in query}


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_image_of_two_labels_is_an_error(tmp_path, part):
    for i in range(2):
        grey(tmp_path / "images" / f"{i}.png", i)
    table(tmp_path, ["0.png,cat", "1.png,dog", *(["0.png,owl"] if part == "train" else [])])
    if part == "test":
        table(tmp_path, ["images/0.png,owl"], part)
    with pytest.raises(ValueError, match=r"0\.png, of class owl, must not be the same file as .* of class cat"):
        images(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("filename,label\na.png,café\n".encode("latin-1"), 'must be text in UTF-8: .*Save it as "CSV UTF-8"'),
        ("filename,label\na.png,猫\n".encode("shift-jis"), "must be text in UTF-8"),
        ("filename,label\na.png,cat\n".encode("utf-16"), "must be text in UTF-8"),
        (b"filename,label\n" + b"x" * 200_000 + b",a\n", "must be a csv file; line 1: field larger"),
        (b"filename,label\n" + b"a" * 5000 + b".png,a\n", r"names a{77}\.\.\., which must lie below"),
        (b"filename,label\na\0b.png,cat\n", "names a\0b.png, which must lie below"),
        (b"filename;label\na.png;cat\n", "must begin with the columns filename,label; it has .*filename;label"),
        (b"filename,label,label\na.png,cat,dog\n", "must begin with the columns filename,label; it has"),
        (b"filename,label\na,b.png,cat\n", "must have .*, and no cell without a column. Repair it, or quote names"),
        (b"filename,label\n,\n", "must have a filename and a label in line 2"),
        (b"filename,label\na.png\n", "must have a filename and a label in line 2"),
        (b"filename,label\n../a.png,cat\n", r"must name files within its folder, not \.\./a\.png"),
        (b"filename,label\na.png,../../etc\n", r"names a\.png, which must lie below"),
        (b"", "must begin with the columns filename,label; it has None"),
        (b"filename,label\n", "must list at least one image below its header"),
        (b"filename,label\n._a.png,cat\n", "must list at least one image below its header"),
        (b"\x89PNG\r\n\x1a\n", "must be text in UTF-8"),
    ],
)
def test_bad_tables_are_named(tmp_path, content, message):
    (tmp_path / "root").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "root" / "train.csv").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"train\.csv {message}"):
        images(tmp_path / "root")


def test_a_table_with_a_byte_order_mark_and_quotes_is_read(tmp_path):
    grey(tmp_path / "images" / "a, b.png", 10)
    (tmp_path / "train.csv").write_bytes('filename,label\r\n"a, b.png",café\r\n'.encode("utf-8-sig"))
    assert images(tmp_path).classes["train"] == ("café",)


@pytest.mark.parametrize("name", ["._0.png", ".ipynb_checkpoints/0-checkpoint.png", "images/__MACOSX/0.png"])
def test_hidden_files_are_skipped_where_a_table_lists_them(tmp_path, name):
    for i in range(2):
        grey(tmp_path / "images" / f"{i}.png", i)
    hidden = tmp_path / ("images" if name.startswith("._") else "") / name
    grey(hidden, 99)
    table(tmp_path, ["0.png,cat", "1.png,dog", f"{name},cat"])
    assert shades(tmp_path) == [[0], [1]]


def test_spaces_after_commas_are_no_part_of_a_name(tmp_path):
    for i in range(2):
        grey(tmp_path / "images" / f"{i}.png", i)
    (tmp_path / "train.csv").write_text("filename, label\n0.png, cat\n1.png,cat \n")
    assert shades(tmp_path) == [[0, 1]]


def test_an_enormous_table_is_not_read(tmp_path):
    with (tmp_path / "train.csv").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"train\.csv must be text in UTF-8: it has 1,099,511,627,776 bytes, more"):
        images(tmp_path)
