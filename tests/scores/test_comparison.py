"""Paired differences, episode streams and `fastmeta compare`."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fastmeta as fm
from fastmeta.cli import main
from tests.algorithms.learners import Fixed

SINE = fm.tasks.Sinusoid(shots=5, queries=5)
QUICK = ["--device", "numpy", "--iterations", 3, "--episodes", 12, "--shots", 3]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="fastmeta")


def score(values: Any, stream: str = "1f", measure: str = "accuracy") -> fm.Score:
    return fm.Score(np.array(values, float), measure, "", stream)


def test_the_interval_is_that_of_the_differences():
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    a, b = hard / 2 + 0.01 * rng.random(500), hard / 2
    difference = fm.compare(score(a), score(b))
    assert difference.mean == pytest.approx((a - b).mean())
    assert difference.ci95 == pytest.approx(1.96 * (a - b).std() / np.sqrt(500))
    assert difference.ci95 < 0.1 * score(a).ci95  # what is hard for both cancels
    assert difference.significant
    assert not fm.compare(score(a), score(a)).significant
    worse = fm.compare(score(b), score(a))
    assert worse.mean == pytest.approx(-difference.mean)
    assert worse.significant


@pytest.mark.parametrize(
    ("a", "b", "measure", "text"),
    [
        ([0.9, 0.8], [0.8, 0.8], "accuracy", "+5.00 points ± 6.93"),
        ([0.3, 0.1], [0.4, 0.4], "mse", "-0.20 ± 0.14"),
        ([0.3, 0.1, np.inf], [0.4, 0.4, 1.0], "mse", "-0.20 ± 0.14 (1 diverged)"),
    ],
)
def test_text(a, b, measure, text):
    difference = fm.compare(score(a, measure=measure), score(b, measure=measure))
    assert str(difference) == text
    assert text in repr(difference)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            score([0.5, 0.6], stream="2e"),
            'not stream "1f", 2 episodes and stream "2e", 2 episodes. Evaluate both .* make its generator there',
        ),
        (score([0.5]), r"not stream .* 1 episodes\. .* number of episodes\.$"),
        (score([0.5, 0.6], measure="mse"), "score is accuracy but baseline is mse"),
    ],
)
def test_scores_of_other_episodes_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        fm.compare(score([0.1, 0.2]), other)
    with pytest.raises(ValueError, match='stream ""'):
        fm.compare(score([0.1], stream=""), score([0.1], stream=""))
    with pytest.raises(TypeError, match=r"baseline={5: .* must be one Score"):
        fm.compare(score([0.1]), {5: score([0.1])})


def test_the_stream_is_the_same_for_every_algorithm_and_changes_with_the_episodes():
    maml = fm.MAML(fm.MLP((1, 4, 1)), device="numpy").fit(SINE, 1)
    other = fm.FOMAML(fm.MLP((1, 6, 1)), device="numpy", inner_steps=3).fit(SINE, 1)
    stream = maml.evaluate(SINE, 9).stream
    assert len(stream) == 16
    assert stream == other.evaluate(SINE, 9, tasks_per_step=4).stream
    assert {s.stream for s in other.evaluate(SINE, 9, inner_steps=(1, 2)).values()} == {stream}
    changed = [
        maml.evaluate(SINE, 8),
        maml.evaluate(SINE, 9, seed=2),
        maml.evaluate(replace(SINE, shots=4), 9),
        maml.evaluate(replace(SINE, amplitude=(0.1, 4.9)), 9),
    ]
    assert len({stream, *(s.stream for s in changed)}) == 5


def test_episodes_of_equal_bytes_and_other_shapes_are_another_stream():
    maml, streams = fm.MAML(fm.MLP((1, 4, 1)), device="numpy").fit(SINE, 1), set()
    for support, dtype in ((2, "float32"), (4, "float32"), (1, "float64")):
        sets = [np.zeros((1, n if dtype == "float32" else n // 2 + 1, 1), dtype) for n in (support, 6 - support)]
        streams.add(maml.evaluate(Fixed(fm.Batch(sets[0], sets[0], sets[1], sets[1])), 2).stream)
    assert len(streams) == 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a and b of two seeds, and c of first order."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in (("a", []), ("b", ["--seed", 1]), ("c", ["--algorithm", "fomaml"])):
        result = invoke("train", "sinusoid", *QUICK, *options, "--out", folder / name)
        assert result.exit_code == 0, result.output
    return folder


def test_compare_prints_paired_differences_and_draws(runs, tmp_path):
    picture = tmp_path / "comparison.png"
    result = invoke("compare", runs / "a", runs / "b", runs / "c", "--shots", 10, "--picture", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    learners = [fm.load(runs / name / "checkpoint.safetensors", "numpy") for name in "abc"]
    source = fm.tasks.Sinusoid(10, 100)
    scores = [m.evaluate(source, 12, inner_steps=10, seed=1_000_003) for m in learners]
    assert f"12 episodes of stream {scores[0].stream}, the same for all" in result.output
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.startswith(str(runs))}
    for name, algorithm, found in zip("abc", ("MAML", "MAML", "FOMAML"), scores, strict=True):
        line = lines[str(runs / name)]
        assert f"  {algorithm}  " in line
        assert str(found) in line
        assert line.endswith(str(fm.compare(found, scores[0]))) == (name != "a")
    means = np.array([s.mean for s in scores[:2]])
    spread = f"from {means.min():.2f} to {means.max():.2f}, standard deviation {means.std(ddof=1):.2f}\n"
    assert f"over 2 seeds of MAML: mean {means.mean():.2f}, {spread}" in result.output
    assert "±" not in result.output.split("over 2 seeds")[1]


def test_scores_of_one_training_are_no_spread_over_seeds(runs, tmp_path):
    """Neither a run named twice nor its scores with other batch norm are other seeds."""
    content = json.loads((runs / "a" / "score.json").read_text())
    for row in content["scores"]:
        row["batch_norm"] = "support"
    other = runs / "a" / "support.json"
    other.write_text(json.dumps(content))
    picture = ["--picture", tmp_path / "c.png"]
    assert "seeds" not in invoke("compare", runs / "a", runs / "a", other, *picture).output
    assert "over 2 seeds of MAML" in invoke("compare", runs / "a", runs / "a", runs / "b", other, *picture).output


def test_the_spread_of_accuracies_over_three_seeds_is_in_percent(runs, tmp_path):
    config, content = (json.loads((runs / "a" / f"{name}.json").read_text()) for name in ("config", "score"))
    row = content["scores"][0] | {"measure": "accuracy"}
    for seed, value in enumerate((0.5, 0.75, 0.5)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config | {"seed": seed}))
        (folder / "score.json").write_text(json.dumps({"scores": [row | {"values": [value] * 11 + [None]}]}))
    result = invoke("compare", *(tmp_path / str(seed) for seed in range(3)), "--picture", tmp_path / "c.png")
    spread = "mean 58.33 %, from 50.00 to 75.00, standard deviation 14.43\n"
    assert f"over 3 seeds of MAML: {spread}" in result.output
    assert "75.00 % ± 0.00 (1 diverged)  +25.00 points ± 0.00 (1 diverged)" in result.output


def test_an_episode_that_diverged_is_null_in_the_table_of_scores():
    evaluate = importlib.import_module("fastmeta.cli.evaluate")  # the attribute of that name is the command

    class Half(fm.ProtoNet):
        def evaluate(self, tasks, episodes, *, seed, batch_norm, ranks=None):
            return score([0.5, np.nan])

    class Problem:
        settings: ClassVar = {"episodes": 2}

        def evaluations(self, part):
            yield 1, SINE

    (row,) = evaluate.scores(Half(fm.MLP((1, 1))), Problem(), seed=1)
    assert row["values"] == [0.5, None]
    assert (row["mean"], row["median"], row["diverged"]) == (0.5, 0.25, 1)
    assert "NaN" not in json.dumps(row)


def test_compare_at_other_shots_and_steps(runs, tmp_path):
    options = ["--evaluation-steps", 1, "--shots", 5, "--picture", tmp_path / "c.png"]
    result = invoke("compare", runs / "a", runs / "c", *options)
    assert "5-shot" in result.output
    rows = json.loads((runs / "c" / "score.json").read_text())["scores"]
    (row,) = [row for row in rows if (row["shots"], row["inner_steps"]) == (5, 1)]
    assert row["text"] in result.output
    assert len(row["values"]) == 12


def test_compare_refuses_other_episodes_and_old_scores(runs, tmp_path):
    evaluated = invoke("evaluate", runs / "c", "--episodes", 5, "--device", "numpy", "--save", "few")
    assert evaluated.exit_code == 0, evaluated.output
    few = runs / "c" / "few.json"
    result = invoke("compare", runs / "a", few)
    assert result.exit_code == 1
    assert f"{few} cannot be compared with {runs / 'a'}: score and baseline must be of the same" in result.output
    content = json.loads(few.read_text())
    for row in content["scores"]:
        del row["stream"]
    few.write_text(json.dumps(content))
    assert "older versions did not keep" in invoke("compare", runs / "a", few).output
    few.write_text('{"scores": 3}')
    assert "must be a table of scores" in invoke("compare", runs / "a", few).output
    assert "must hold none.json" in invoke("compare", runs / "a", runs / "c" / "none.json").output
    assert "must be at least two" in invoke("compare", runs / "a").output
    assert "must have a score at 7 shots" in invoke("compare", runs / "a", runs / "b", "--shots", 7).output
    for name in ("config", "a/b", ""):
        refused = invoke("evaluate", runs / "c", "--save", name, "--device", "numpy")
        assert f'save="{name}" must be a word' in refused.output
