from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.scores.evaluation import query_values


def test_interval_is_1_96_standard_errors():
    values = np.random.default_rng(0).random(600)
    score = fm.Score(values)
    assert score.mean == pytest.approx(values.mean())
    assert score.std == pytest.approx(np.sqrt(np.mean((values - values.mean()) ** 2)))
    assert score.ci95 == pytest.approx(1.96 * np.std(values) / np.sqrt(600))


@pytest.mark.parametrize(
    ("values", "measure", "text"),
    [
        ([1.0, 0.8, 0.9, 0.9], "accuracy", "90.00 % ± 6.93"),
        ([1.0, 1.0], "accuracy", "100.00 % ± 0.00"),
        ([0.3, 0.4], "mse", "0.35 ± 0.07"),
        ([0.0123, 0.0125], "mse", "0.0124 ± 0.0001"),
        ([2.0], "mse", "2.00 ± 0.00"),
        ([0.0, 2e46], "mse", "1e+46 ± 1.4e+46"),
        ([0.3, 0.4, np.inf], "mse", "0.35 ± 0.07 (1 diverged)"),
    ],
)
def test_text(values, measure, text):
    assert str(fm.Score(np.array(values), measure)) == text


def test_repr_says_what_the_number_is():
    score = fm.Score(np.array([0.5, 1.0]), "accuracy", "transductive")
    assert repr(score) == "<accuracy 75.00 % ± 34.65 (95 % over 2 episodes, batch norm transductive)>"


def test_values_are_a_copy_that_cannot_be_written():
    values = np.zeros(3)
    score = fm.Score(values)
    values[0] = 1
    assert score.mean == 0
    with pytest.raises(ValueError, match="read-only"):
        score.values[0] = 1


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2))])
def test_bad_values(values):
    with pytest.raises(ValueError, match=r"values of shape .* must be \(episodes,\), at least one"):
        fm.Score(values)


def test_bad_measure():
    with pytest.raises(ValueError, match=r'measure="acuracy" must be one of .* Did you mean "accuracy"\?'):
        fm.Score(np.zeros(3), "acuracy")


def test_accuracy_of_an_episode():
    outputs = np.array([[[1, 2, 0], [5, 1, 1], [0, 0, 1]], [[1, 0, 0], [1, 0, 0], [0, 1, 0]]], np.float32)
    y = np.array([[1, 0, 0], [0, 1, 1]])
    np.testing.assert_allclose(query_values(outputs, y, None, "accuracy"), [2 / 3, 2 / 3])
    weights = np.array([[1, 1, 0], [0, 1, 1]], np.float32)
    np.testing.assert_allclose(query_values(outputs, y, weights, "accuracy"), [1.0, 0.5])
    for bad in (np.array([[1, 1, 0], [0, 0, 0]]), np.array([[1, 1, 0], [1, -1, 1]])):
        with pytest.raises(ValueError, match=r"query_weights must be at least 0 .* and one of them above 0"):
            query_values(outputs, y, bad, "accuracy")


def test_squared_error_of_an_episode():
    outputs, y = np.zeros((2, 3, 2), np.float32), np.ones((2, 3, 2), np.float32)
    y[1, :, 0] = 2
    np.testing.assert_allclose(query_values(outputs, y, None, "mse"), [1.0, 2.5])


def test_the_median_counts_diverged_episodes_as_the_worst():
    assert fm.Score(np.array([0.1, 0.9, 0.4])).median == 0.4
    assert fm.Score(np.array([1.0, 2.0, 5.0, 90.0]), "mse").median == 3.5
    assert fm.Score(np.array([1.0, 2.0, np.inf]), "mse").median == 2.0
    assert fm.Score(np.array([1.0, np.inf, np.inf]), "mse").median == np.inf
    assert fm.Score(np.array([0.8, 0.6, np.nan])).median == 0.6
    assert fm.Score(np.array([0.8, np.nan, np.nan])).median == 0.0


def test_mean_and_interval_leave_diverged_episodes_out():
    score, finite = fm.Score(np.array([0.25, np.nan, 0.75, 0.5])), np.array([0.25, 0.75, 0.5])
    assert (score.mean, score.std, score.diverged) == (0.5, finite.std(), 1)
    assert score.ci95 == pytest.approx(1.96 * finite.std() / np.sqrt(3), rel=1e-15)
