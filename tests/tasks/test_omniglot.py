from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmeta.tasks import Omniglot
from fastmeta.tasks.omniglot import images as omniglot_images
from fastmeta.tasks.omniglot.archives import ARCHIVES, Archive, cache_folder, download, locate
from fastmeta.tasks.omniglot.images import load_images
from fastmeta.tasks.omniglot.omniglot import maml_split, vinyals_split
from fastmeta.tasks.parts import PARTS
from tests.tasks.test_image_cache import TROUBLES

image_module = pytest.importorskip("PIL.Image")
OFFICIAL = Path(__file__).parents[2].parent / "shared" / "omniglot"
official = pytest.mark.skipif(
    not (OFFICIAL / "images_background.zip").exists(),
    reason="the Omniglot archives are not beside the repository",
)
DRAWERS, PIXELS = 6, 35


def drawing(character: int, drawer: int) -> np.ndarray:
    """A picture (35, 35) of blocks that no rotation maps onto itself; ink is False, paper is True."""
    blocks = np.random.default_rng((character, drawer)).random((7, 7)) < 0.5
    blocks[:, 0], blocks[0, 3] = False, True
    return np.kron(blocks, np.ones((5, 5))).astype(bool)


def write_archive(folder: Path, name: str, alphabets: dict[str, int], first: int) -> Archive:
    """A one-bit archive in the official layout, and what a loader must expect of it."""
    folder.mkdir(parents=True, exist_ok=True)
    digest, number = hashlib.sha256(), first
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr(f"__MACOSX/{name}/._A/character01/._0001_01.png", b"")
        for alphabet, characters in sorted(alphabets.items()):
            for character in range(1, characters + 1):
                for drawer in range(1, DRAWERS + 1):
                    pixels = drawing(number, drawer)
                    member = f"{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}.png"
                    file = io.BytesIO()
                    image_module.fromarray(pixels).save(file, "PNG")
                    archive.writestr(f"{name}/{member}", file.getvalue())
                    digest.update(member.encode() + (255 * pixels.astype(np.uint8)).tobytes())
                number += 1
    url = (folder / f"{name}.zip").as_uri()
    return Archive(name, number - first, digest.hexdigest(), url, DRAWERS, PIXELS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTMETA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTMETA_OMNIGLOT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, tuple[Archive, Archive]]:
    folder = tmp_path / "data"
    background = write_archive(folder, "images_background", {"Zeta": 3, "Beta_(x)": 2}, 1)
    return folder, (background, write_archive(folder, "images_evaluation", {"Eta": 4}, 6))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(omniglot_images, "_decode", refuse)


def tiny_omniglot(tiny: tuple[Path, tuple[Archive, Archive]], **arguments: Any) -> Omniglot:
    """Omniglot itself, made to expect the tiny archives: 4 / 2 / 3 characters."""

    class TinyOmniglot(Omniglot):
        archives = tiny[1]
        held_out = (2, 3)

    return TinyOmniglot(tiny[0], **arguments)


def test_images_are_named_sorted_resized_and_inverted(tiny: tuple[Path, tuple[Archive, Archive]]) -> None:
    names, images = load_images(*tiny)
    wanted = [f"Beta_(x)/character{i:02d}" for i in (1, 2)] + [f"Eta/character{i:02d}" for i in (1, 2, 3, 4)]
    assert list(names) == wanted + [f"Zeta/character{i:02d}" for i in (1, 2, 3)]
    assert images.shape == (9, DRAWERS, 28, 28, 1)
    assert images.dtype == np.uint8
    for place, number in (
        (0, 1),
        (1, 2),
        (2, 6),
        (5, 9),
        (6, 3),
        (8, 5),
    ):  # the archives number Beta, Zeta, Eta
        for drawer in (1, DRAWERS):
            paper = drawing(number, drawer)
            small = image_module.fromarray((~paper * 255).astype(np.uint8)).resize(
                (28, 28), image_module.Resampling.LANCZOS
            )
            got = images[place, drawer - 1, :, :, 0].astype(int)
            assert np.abs(got - np.asarray(small)).max() <= 1
            assert len(np.unique(got)) > 2  # grey levels, not the nearest pixel


def test_unpacked_folders_and_paths_give_the_same_images(
    tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path
) -> None:
    folder, archives = tiny
    names, images = load_images(folder, archives)
    for archive in archives:
        with zipfile.ZipFile(folder / f"{archive.name}.zip") as file:
            file.extractall(tmp_path / "unpacked")
    mixed = (str(folder / "images_background.zip"), tmp_path / "unpacked" / "images_evaluation")
    for root in (tmp_path / "unpacked", str(folder), mixed):
        again, same = load_images(root, archives)
        assert again == names
        np.testing.assert_array_equal(same, images)


@pytest.mark.usefixtures("no_decoding")
def test_missing_archives_are_named(tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path) -> None:
    folder, archives = tiny
    (folder / "images_evaluation.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r'root=".*" must hold images_evaluation.zip or .* Download'):
        load_images(folder, archives)
    paths = (folder / "images_background.zip", tmp_path / "nowhere.zip")
    with pytest.raises(FileNotFoundError, match=r'root=".*nowhere.zip" must exist. Download file:'):
        load_images(paths, archives)
    with pytest.raises(ValueError, match=r"must be a folder or the paths of images_background.zip, images_eval"):
        load_images(paths[:1], archives)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not a zip", "empty"])
def test_damaged_archives_are_named(damage: str, tiny: tuple[Path, tuple[Archive, Archive]], cache: Path) -> None:
    folder, archives = tiny
    path = folder / "images_background.zip"
    whole = path.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes(255 - b for b in whole[middle : middle + 60]) + whole[middle + 60 :]
    path.write_bytes(
        {"truncated": whole[:middle], "flipped": flipped, "not a zip": b"<html>404</html>", "empty": b""}[damage]
    )
    with pytest.raises(ValueError, match=r"images_background.zip must .* Delete it and download file:"):
        load_images(folder, archives)
    assert not list(cache.glob("*"))


def test_wrong_contents_are_named(tiny: tuple[Path, tuple[Archive, Archive]]) -> None:
    folder, (background, evaluation) = tiny
    expect = partial(dataclasses.replace, background)
    for wrong, message in (
        (expect(characters=7), "must hold 7 characters with 6 drawings each.* it holds 5 characters with 30"),
        (expect(drawers=5), "must hold 5 characters with 5 drawings each"),
        (expect(side=105), r"0001_01.png in .* must be 105 pixels square, not \(35, 35\)"),
        (expect(digest="0" * 64), "must hold the official images_background; its drawings differ"),
    ):
        with pytest.raises(ValueError, match=message):
            load_images(folder, (wrong, evaluation))
    swapped = (folder / "images_evaluation.zip", folder / "images_background.zip")
    with pytest.raises(ValueError, match=r"must hold 5 characters.* it holds 4 characters"):
        load_images(swapped, (background, evaluation))


def test_one_changed_pixel_is_noticed(tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path) -> None:
    folder, archives = tiny
    for archive in archives:
        with zipfile.ZipFile(folder / f"{archive.name}.zip") as file:
            file.extractall(tmp_path / "unpacked")
    path = tmp_path / "unpacked" / "images_evaluation" / "Eta" / "character02" / "0007_03.png"
    pixels = drawing(7, 3)
    pixels[20, 20] ^= True
    image_module.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match="must hold the official images_evaluation; its drawings differ"):
        load_images(tmp_path / "unpacked", archives)


def test_the_cache_is_used_and_follows_the_archives(
    tiny: tuple[Path, tuple[Archive, Archive]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archives = tiny
    names, images = load_images(folder, archives)
    files = list(cache.iterdir())
    assert [file.suffix for file in files] == [".npz"]  # no part is left behind
    with monkeypatch.context() as patch:
        patch.setattr(omniglot_images, "_decode", None)
        again, same = load_images(folder, archives)
        assert again == names
        np.testing.assert_array_equal(same, images)
    os.utime(folder / "images_background.zip", (1, 1))
    load_images(folder, archives)
    assert len(list(cache.iterdir())) == 2


def test_damaged_caches_are_rebuilt(tiny: tuple[Path, tuple[Archive, Archive]], cache: Path) -> None:
    names, images = load_images(*tiny)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"text", whole[:1000], whole[: len(whole) // 2]]
    for place in [0, 8, 30, 60, 100, *rng.integers(len(whole), size=6)]:
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        again, same = load_images(*tiny)
        assert again == names
        np.testing.assert_array_equal(same, images)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_unwritable_cache_warns_and_still_loads(
    tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    trouble(tmp_path, monkeypatch)
    with pytest.warns(UserWarning, match=r"The cache .*omniglot.* cannot be used .* Set FASTMETA_CACHE"):
        assert load_images(*tiny)[1].shape == (9, DRAWERS, 28, 28, 1)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_archives_are_downloaded_where_they_cannot_be_kept(
    tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any
) -> None:
    wanted = load_images(*tiny)[1]
    trouble(tmp_path, monkeypatch)
    with pytest.warns(UserWarning, match=r"The cache .* cannot be used .* Set FASTMETA_CACHE"):
        np.testing.assert_array_equal(load_images(None, tiny[1])[1], wanted)


@pytest.mark.parametrize("kind", ["PostScript", "pipe", "enormous file", "enormous member", "image of another size"])
def test_what_is_no_drawing_is_refused(tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path, kind: str) -> None:
    folder, archives = tiny
    source, name = folder / "images_background.zip", "images_background/Zeta/character01/0003_01.png"
    with zipfile.ZipFile(source) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    content = io.BytesIO()
    image_module.new("1", (9000, 9000)).save(content, "PNG")
    odd = {"PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"}.get(
        kind, content.getvalue()
    )
    if kind in ("pipe", "enormous file"):
        source.unlink()
        for member, data in members.items():
            (folder / member).parent.mkdir(parents=True, exist_ok=True)
            (folder / member).write_bytes(data)
        (folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(folder / name)
        else:
            with (folder / name).open("wb") as file:
                file.truncate(1 << 40)
    else:
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                with archive.open(member, "w", force_zip64=True) as opened:
                    opened.write(data if member != name else b"" if kind == "enormous member" else odd)
                    for _ in range(257 if member == name and kind == "enormous member" else 0):
                        opened.write(bytes(1 << 20))
    with pytest.raises(ValueError, match=r"images_background.* must be "):
        load_images(folder, archives)


def test_archives_are_downloaded_once(tiny: tuple[Path, tuple[Archive, Archive]], cache: Path) -> None:
    folder, archives = tiny
    names, images = load_images(None, archives)
    assert sorted(path.name for path in (cache / "omniglot").iterdir()) == [f"{a.name}.zip" for a in archives]
    for archive in archives:
        (folder / f"{archive.name}.zip").unlink()
    again, same = load_images(None, archives)
    assert again == names
    np.testing.assert_array_equal(same, images)


@pytest.mark.parametrize("failure", ["404", "short"])
def test_failed_downloads_leave_nothing(
    failure: str, tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if failure == "404" else 200)
            self.send_header("Content-Length", "0" if failure == "404" else "1000")
            self.end_headers()
            if failure == "short":
                self.wfile.write(b"x" * 10)

        def log_message(self, *arguments: object) -> None: ...

    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        archive = dataclasses.replace(tiny[1][0], url=f"http://127.0.0.1:{server.server_port}/a.zip")
        with pytest.raises(ConnectionError, match=r"root=None must be able to download http.*FASTMETA_OMNIGLOT"):
            download(archive, tmp_path / "target")
        thread.join()
    assert not list((tmp_path / "target").glob("*"))


def test_environment_names_the_folder(
    tiny: tuple[Path, tuple[Archive, Archive]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archives = tiny
    monkeypatch.setenv("FASTMETA_OMNIGLOT", str(folder))
    assert locate(None, archives) == [folder / f"{a.name}.zip" for a in archives]
    monkeypatch.setenv("FASTMETA_OMNIGLOT", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r'FASTMETA_OMNIGLOT=".*nowhere" must hold'):
        locate(None, archives)
    monkeypatch.delenv("FASTMETA_CACHE")
    assert "fastmeta" in str(cache_folder())


@pytest.mark.parametrize(("module", "package"), [("PIL", "Pillow"), ("tqdm", "tqdm")])
def test_missing_packages_are_named(
    module: str,
    package: str,
    tiny: tuple[Path, tuple[Archive, Archive]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (module, f"{module}.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    wanted = rf'need {package}, which is not installed: pip install "fastmeta\[images\]"\.'
    with pytest.raises(ModuleNotFoundError, match=wanted):
        load_images(*tiny)


def test_a_cache_needs_no_optional_package(
    tiny: tuple[Path, tuple[Archive, Archive]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_images(*tiny)
    for name in ("PIL", "PIL.Image", "tqdm"):
        monkeypatch.setitem(sys.modules, name, None)
    load_images(*tiny)


def test_rotations_are_classes(tiny: tuple[Path, tuple[Archive, Archive]]) -> None:
    tasks = tiny_omniglot(tiny, ways=2, shots=1, queries=2)
    names, images = load_images(*tiny)
    for part, characters in zip(PARTS, (4, 2, 3), strict=True):
        source = getattr(tasks, part)
        assert len(source.classes) == 4 * characters
        for i, name in enumerate(tasks.characters[part]):
            for turns in range(4):
                got = source.x[source.y == 4 * i + turns]
                wanted = [np.rot90(image, turns) for image in images[names.index(name)]]
                np.testing.assert_array_equal(got, wanted)
        characters_drawn = {tuple(image.ravel()) for image in source.x}
        assert len(characters_drawn) == 4 * characters * DRAWERS  # no rotation repeats another image
    upright = tiny_omniglot(tiny, ways=2, shots=1, queries=2, rotations=False)
    assert [len(getattr(upright, part).classes) for part in PARTS] == [4, 2, 3]


def test_a_new_drawing_is_prepared_as_those_of_training(tiny: tuple[Path, tuple[Archive, Archive]]) -> None:
    tasks = tiny_omniglot(tiny, ways=2, shots=1, queries=2).train
    numbers = {"Beta_(x)": 1, "Zeta": 3, "Eta": 6}
    assert tasks.preparation is not None
    for name, degrees in (name.split(", ") for name in tasks.class_names if "," in name):
        alphabet, character = name.split("/character")
        place = 4 * tasks.class_names[::4].index(name)
        paper = drawing(numbers[alphabet] + int(character) - 1, 3)
        x, alone = tasks.preparation.samples(paper)
        assert alone
        np.testing.assert_array_equal(x[0], tasks.take(np.flatnonzero(tasks.y == place)[2]))
        turned = place + int(degrees.removesuffix(" degrees")) // 90
        np.testing.assert_array_equal(np.rot90(x[0], turned - place), tasks.take(np.flatnonzero(tasks.y == turned)[2]))


def test_tasks_are_floats_with_ink_near_one(tiny: tuple[Path, tuple[Archive, Archive]]) -> None:
    batch = tiny_omniglot(tiny, ways=2, shots=1, queries=5).train.sample(4, seed=0)
    assert batch.x_support.shape == (4, 2, 28, 28, 1)
    assert batch.x_query.shape == (4, 10, 28, 28, 1)
    assert batch.x_query.dtype == np.float32
    assert batch.x_query.min() == 0
    assert batch.x_query.max() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"split": "mamll"},
            ValueError,
            'split="mamll" must be one of "maml", "vinyals". Did you mean "maml"',
        ),
        ({"ways": 1}, ValueError, "ways=1 must be at least 2"),
        ({"shots": 0}, ValueError, "shots=0 must be at least 1"),
        ({"queries": "many"}, TypeError, 'queries="many" must be a whole number'),
        ({"seed": -1}, ValueError, "seed=-1 must be at least 0"),
        ({"shots": 2, "queries": 5}, ValueError, "queries=7 must be at most 6, the number of drawings"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, object],
    error: type[Exception],
    message: str,
    tiny: tuple[Path, tuple[Archive, Archive]],
) -> None:
    with pytest.raises(error, match=message):
        tiny_omniglot(tiny, **arguments)


def test_too_many_ways_are_named(tiny: tuple[Path, tuple[Archive, Archive]]) -> None:
    tasks = tiny_omniglot(tiny, ways=3, queries=2)
    assert len(tasks.test.sample(2, seed=0)) == 2
    with pytest.raises(ValueError, match="ways=3 must be at most 2, the number of classes"):
        _ = tasks.validation


def test_production_expects_the_official_archives() -> None:
    assert Omniglot.archives is ARCHIVES
    assert Omniglot.held_out == (100, 423)
    assert [(a.name, a.characters, a.drawers, a.side) for a in ARCHIVES] == [
        ("images_background", 964, 20, 105),
        ("images_evaluation", 659, 20, 105),
    ]
    for archive in ARCHIVES:
        assert archive.url == f"https://github.com/brendenlake/omniglot/raw/master/python/{archive.name}.zip"


def test_vinyals_split_counts() -> None:
    split = vinyals_split()
    assert [len(split[part]) for part in PARTS] == [1028, 172, 423]
    assert len({name for names in split.values() for name in names}) == 1623


def test_maml_split_is_a_seeded_partition() -> None:
    names = [name for part in vinyals_split().values() for name in part]
    split = maml_split(names, seed=0)
    assert [len(split[part]) for part in PARTS] == [1100, 100, 423]
    assert {name for part in split.values() for name in part} == set(names)
    assert maml_split(names[::-1], seed=0) == split
    assert maml_split(names, seed=1) != split
    wanted = ("Burmese_(Myanmar)/character13", "Latin/character14", "Anglo-Saxon_Futhorc/character01")
    assert split["train"][:3] == wanted  # a saved model relies on this order staying as it is


@official
def test_official_archives_load_and_load_fast_again() -> None:
    for split, classes in (("maml", [4400, 400, 1692]), ("vinyals", [4112, 688, 1692])):
        start = time.perf_counter()
        tasks = Omniglot(OFFICIAL, split=split)
        seconds = time.perf_counter() - start
        assert [len(getattr(tasks, part).classes) for part in PARTS] == classes
    assert seconds < 2  # from the cache; decoding takes longer than that
    batch = tasks.train.sample(2, seed=0)
    assert batch.x_query.shape == (2, 75, 28, 28, 1)
    assert 0.05 < batch.x_query.mean() < 0.12
    images = load_images(OFFICIAL)[1]
    assert images.max(axis=(2, 3, 4)).min() > 128  # every drawing has ink


@official
def test_vinyals_split_is_the_published_one() -> None:
    split = vinyals_split()
    for part, file in zip(PARTS, ("train", "val", "test"), strict=True):
        published = (OFFICIAL / f"vinyals_{file}.txt").read_text().split()
        turned = {f"{name}/rot{degrees:03d}" for name in split[part] for degrees in (0, 90, 180, 270)}
        assert turned == set(published)
