from __future__ import annotations

import json
import os
import pathlib
import threading
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import fastmeta as fm
from fastmeta.learning import archive, training
from fastmeta.learning import checkpoint as checkpoints
from fastmeta.learning.checkpoint import Checkpoint

ADAM = dict.fromkeys(("theta", "inner_lr"), fm.Adam())


def example(**changes) -> Checkpoint:
    net = fm.MLP((2, 3, 1))
    parameters = {"theta": net.init(0), "inner_lr": np.array([[0.1, 0.2]])}
    state = training.begin(parameters, ADAM)
    state = training.advance(state, {"theta": net.init(1), "inner_lr": np.ones((1, 2))}, ADAM)
    start = Checkpoint(
        algorithm="MAML",
        hyper_parameters={"inner_lr": [[0.1, 0.2]], "inner_steps": 1, "learn_inner_lr": True},
        net=net,
        settings={"seed": 3, "tasks_per_step": 4, "optimizer": fm.Adam().to_dict()},
        training=state,
        history={"loss": np.array([1.5]), "seconds": np.array([0.1])},
    )
    return start._replace(**changes)


def assert_equal(a: Checkpoint, b: Checkpoint) -> None:
    assert a[:4] == b[:4]
    assert a.training.step == b.training.step
    assert a.training.moments.keys() == b.training.moments.keys()
    pairs = [(a.training.parameters[n], b.training.parameters[n]) for n in b.training.parameters]
    pairs += [(a.history[n], b.history[n]) for n in b.history]
    for name, state in b.training.moments.items():
        assert a.training.moments[name].step == state.step
        pairs += list(zip(a.training.moments[name].moments, state.moments, strict=True))
    for found, wanted in pairs:
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def disk_events(monkeypatch) -> list[tuple[str, int, int]]:
    """("synced" or "renamed", inode, size) of each file or folder that is, in order."""
    events, sync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        found = os.fstat(descriptor)
        events.append(("synced", found.st_ino, found.st_size))
        sync(descriptor)

    def renamed(source, target, **options):
        replace(source, target, **options)
        found = os.stat(target)
        events.append(("renamed", found.st_ino, found.st_size))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return events


def test_round_trip(tmp_path):
    checkpoints.write(tmp_path / "run.safetensors", example())
    assert_equal(checkpoints.read(tmp_path / "run.safetensors"), example())


def test_folder_is_made_and_nothing_else_is_left_in_it(tmp_path):
    for _ in range(2):
        checkpoints.write(str(tmp_path / "new" / "deep" / "run.safetensors"), example())
    assert os.listdir(tmp_path / "new" / "deep") == ["run.safetensors"]


def test_no_pickle_and_no_path_in_the_file(tmp_path):
    checkpoints.write(tmp_path / "run.safetensors", example())
    content = (tmp_path / "run.safetensors").read_bytes()
    assert b"pickle" not in content
    assert str(tmp_path).encode() not in content


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    checkpoints.write(path, example())
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        checkpoints.write(path, example(algorithm="FOMAML"))
    assert_equal(checkpoints.read(path), example())
    assert os.listdir(tmp_path) == ["run.safetensors"]


def test_a_checkpoint_and_its_folder_reach_the_disk(tmp_path, monkeypatch):
    """The content before the rename, the rename after it."""
    path = tmp_path / "run.safetensors"
    events = disk_events(monkeypatch)
    checkpoints.write(path, example())
    whole = path.stat().st_ino, path.stat().st_size
    synced, renamed = events.index(("synced", *whole)), events.index(("renamed", *whole))
    assert synced < renamed
    assert ("synced", tmp_path.stat().st_ino) in [event[:2] for event in events[renamed:]]


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors\" must be a checkpoint file\. There is no"):
        checkpoints.read(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="must be a checkpoint file"):
        checkpoints.read(tmp_path)


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "run.safetensors"
    checkpoints.write(path, example())
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"must be a whole fastmeta checkpoint\. It is cut short"):
            checkpoints.read(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(200), b"hello, I am a text file of some length"])
def test_another_format(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a whole fastmeta checkpoint\. It was written by another program"):
        checkpoints.read(tmp_path / "foreign")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_another_program(tmp_path, metadata):
    save_file({"theta": np.zeros(3)}, tmp_path / "foreign", metadata)
    with pytest.raises(ValueError, match=r"must be a fastmeta checkpoint\. It was written by another program"):
        checkpoints.read(tmp_path / "foreign")


def test_later_format(tmp_path, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(archive, "FORMAT", 2)
        checkpoints.write(tmp_path / "run", example())
    with pytest.raises(ValueError, match=r"has checkpoint format 2; this fastmeta reads up to 1\. Upgrade"):
        checkpoints.read(tmp_path / "run")


def test_unknown_layer(tmp_path):
    metadata = {
        "fastmeta_format": "1",
        "description": json.dumps(
            {
                "algorithm": "MAML",
                "hyper_parameters": {},
                "settings": {},
                "step": 0,
                "network": {"input_shape": [2], "layers": [{"layer": "Linar", "outputs": 3}]},
            }
        ),
    }
    save_file({"theta": np.zeros(3)}, tmp_path / "run", metadata)
    with pytest.raises(ValueError, match=r'layer="Linar" must be one of .* Did you mean "Linear"\?'):
        fm.load(tmp_path / "run")


def test_unknown_algorithm_suggests_the_nearest(tmp_path):
    checkpoints.write(tmp_path / "run", example(algorithm="MAMLL"))
    with pytest.raises(ValueError, match=r'algorithm="MAMLL" must be one of .* Did you mean "MAML"\?'):
        fm.load(tmp_path / "run")
    checkpoints.write(tmp_path / "run", example(algorithm="NobodyElse"))
    with pytest.raises(ValueError, match=r"Import the module that defines it"):
        fm.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"net": fm.MLP((2, 4, 1))},
            r"linear1\.weight is \(2, 3\), not \(2, 4\), linear1\.bias is \(3,\), not",
        ),
        ({"net": fm.MLP((2, 3, 3, 1))}, r"linear3\.bias is absent, not \(1,\)"),
        ({"net": fm.MLP((2, 3, 1), activation="tanh")}, "the shapes agree, the layers do not"),
        ({"algorithm": "FOMAML"}, "other settings: algorithm was MAML, is FOMAML"),
        ({"settings": {**example().settings, "seed": 4}}, r"seed was 3, is 4\. Give the same ones to resume"),
        (
            {"hyper_parameters": {"inner_lr": [[0.1, 0.3]], "inner_steps": 2, "learn_inner_lr": True}},
            r"other settings: inner_lr was \[\[0\.1, 0\.2\]\], is \[\[0\.1, 0\.3\]\]; inner_steps was 1, is 2\.",
        ),
    ],
)
def test_another_run(tmp_path, changes, message):
    path = tmp_path / "run.safetensors"
    checkpoints.write(path, example())
    with pytest.raises(ValueError, match=message):
        checkpoints.continued(example(**changes), path, resume=True)


def test_the_same_run_goes_on(tmp_path):
    path = pathlib.Path(tmp_path, "run.safetensors")
    begun = example(training=training.begin({"theta": np.zeros(13), "inner_lr": np.ones((1, 2))}, ADAM))
    assert checkpoints.continued(begun, path, resume=True) is begun
    checkpoints.write(path, example())
    assert_equal(checkpoints.continued(begun, path, resume=True), example())


def test_an_existing_file_is_not_overwritten_unasked(tmp_path):
    checkpoints.write(tmp_path / "run", example())
    with pytest.raises(FileExistsError, match=r"must not exist yet\. Pass resume=True to go on from it, or remove"):
        checkpoints.continued(example(), tmp_path / "run", resume=False)


def test_resume_without_a_path():
    with pytest.raises(ValueError, match="resume=True must come with a checkpoint"):
        checkpoints.continued(example(), None, resume=True)


# files that somebody edited, or a disk damaged


def edited(path: pathlib.Path, metadata=None, remove=(), arrays=None, **changes) -> pathlib.Path:
    """The example, without its checksum, with some `metadata`, `arrays` and entries of its description changed."""
    checkpoints.write(path, example())
    with safe_open(path, framework="numpy") as file:
        texts, contents = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del texts["sha256"]
    texts["description"] = json.dumps(json.loads(texts["description"]) | changes)
    kept = json.loads(texts["description"])
    texts["description"] = json.dumps({name: value for name, value in kept.items() if name not in remove})
    texts |= metadata or {}
    texts, contents = ({n: v for n, v in d.items() if n not in remove} for d in (texts, contents | (arrays or {})))
    save_file(contents, path, texts)
    return path


NAN = np.full(13, np.nan, np.float32)
EDITS = {
    "it has no 'description'.": {"remove": ["description"]},
    "it has no 'step'.": {"remove": ["step"]},
    "it has no 'network'.": {"remove": ["network"]},
    "it has no 'layers'.": {"network": {}},
    "it has no 'theta'.": {"remove": ["theta"]},
    "it has no 'loss'.": {"remove": ["history.loss"]},
    "its description is not JSON (": {"metadata": {"description": "{"}},
    "list indices must be integers": {"metadata": {"description": "[]"}},
    'fastmeta_format="x" must be a whole number.': {"metadata": {"fastmeta_format": "x"}},
    "fastmeta_format=0 must be at least 1.": {"metadata": {"fastmeta_format": "0"}},
    "step=-1 must be at least 0.": {"step": -1},
    'step="1" must be a whole number.': {"step": "1"},
    "the history of loss of shape (1,) must be (step,) = (99,).": {"step": 99},
    "hyper_parameters=[1] must be settings by name.": {"hyper_parameters": [1]},
    "settings=None must be settings by name.": {"settings": None},
    "unexpected keyword argument 'foo'": {"hyper_parameters": {"foo": 1}},
    "inner_steps=0 must be at least 1.": {"hyper_parameters": {"inner_steps": 0}},
    "theta of shape (13,) must be (17,) for MLP": {"network": fm.MLP((2, 4, 1)).to_dict()},
    "theta of dtype float16 must be float32 or float64.": {"arrays": {"theta": np.zeros(13, np.float16)}},
    "theta and its optimizer arrays must be finite.": {"arrays": {"theta": NAN}},
    "optimizer array of theta, float32 (2,), must be float32 (13,).": {
        "arrays": {"optimizer.theta.1": np.zeros(2, np.float32)}
    },
    "optimizer.inner_lr.0 belongs to no parameter.": {"remove": ["inner_lr"]},
    "inner_lr is absent, not (1, 2).": {"remove": ["inner_lr", "optimizer.inner_lr.0", "optimizer.inner_lr.1"]},
    "history.more belongs to no parameter.": {"arrays": {"history.more": np.zeros(1)}},
    "extra is (1,), not absent.": {"arrays": {"extra": np.zeros(1)}},
}


@pytest.mark.parametrize("message", EDITS)
def test_edited_files_name_the_path_the_cause_and_the_cure(tmp_path, message):
    path = edited(tmp_path / "run", **EDITS[message])
    with pytest.raises(ValueError, match=r'run" must be a checkpoint as fastmeta wrote it: .*') as caught:
        fm.load(path)
    assert message in str(caught.value)
    assert str(caught.value).endswith(" Restore it from a copy, or train anew.")


def test_edited_moments_are_not_resumed(tmp_path):
    path = edited(tmp_path / "run", remove=["optimizer.theta.1"])
    with pytest.raises(ValueError, match="theta has 1 optimizer arrays, not 2"):
        checkpoints.continued(example(), path, resume=True)


def test_array_of_a_dtype_that_numpy_lacks(tmp_path):
    header = json.dumps({"theta": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "run").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(ValueError, match=r"must be a whole fastmeta checkpoint|must be a fastmeta checkpoint"):
        fm.load(tmp_path / "run")


def test_the_device_is_no_fault_of_the_file(tmp_path):
    checkpoints.write(tmp_path / "run", example())
    with pytest.raises(ValueError, match=r'^device="gpu" must be one of'):
        fm.load(tmp_path / "run", device="gpu")


# what a disk, or an attacker, does to a file


def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "run"
    checkpoints.write(path, example())
    whole = path.read_bytes()
    found = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            saved = checkpoints.read(path)
        except ValueError as error:
            found += str(error).startswith(f'path="{path}" ')
        else:
            assert_equal(saved, example())  # the name of the checksum's entry
    assert found >= len(whole) - len("sha256")


@pytest.mark.parametrize("name", ["theta", "history.seconds", "optimizer.theta.1"])
def test_a_changed_value_is_found_by_the_checksum(tmp_path, name):
    path = tmp_path / "run"
    checkpoints.write(path, example())
    with safe_open(path, framework="numpy") as file:
        texts, arrays = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    arrays[name].ravel()[0] += 1e-3
    save_file(arrays, path, texts)
    with pytest.raises(ValueError, match="checksum is that of other content: it was damaged or edited"):
        checkpoints.read(path)


def test_a_checkpoint_without_a_checksum_is_an_older_one(tmp_path):
    assert_equal(checkpoints.read(edited(tmp_path / "run")), example())


def sparse(path: pathlib.Path, name: str, shape: list[int], **changes) -> None:
    """The example with another array of zeros, of which nothing is on the disk."""
    edited(path, **changes)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    size = 4 * int(np.prod(shape, dtype=object))
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + size]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    with open(path, "rb+") as file:
        file.truncate(8 + len(text) + len(body) + size)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("history.more", [1 << 28], "history.more belongs to no parameter"),
        ("optimizer.theta.2", [1 << 28], r"the optimizer array of theta, float32 \(268435456,\), must be"),
        ("optimizer.other.0", [1 << 28], "optimizer.other.0 belongs to no parameter"),
        ("other", [1 << 28], r"other is \(268435456,\), not absent"),
        ("other", [1 << 38], "must be smaller than the free memory"),
    ],
)
def test_what_does_not_belong_is_refused_before_it_is_read(tmp_path, name, shape, message):
    path = tmp_path / "run"
    sparse(path, name, shape)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            fm.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_threads_that_save_to_one_path_all_succeed(tmp_path):
    learners = [fm.MAML(fm.MLP((1, 9, 1)), device="numpy").fit(fm.tasks.Sinusoid(), 0, seed=s) for s in range(4)]
    path, failed = tmp_path / "one", []
    learners[0].save(path)

    def work(learner: fm.MAML) -> None:
        for _ in range(10):
            try:
                learner.save(path)
                fm.load(path)
            except (OSError, ValueError) as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(learner,)) for learner in learners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert os.listdir(tmp_path) == ["one"]
