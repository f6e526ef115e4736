from __future__ import annotations

import numpy as np
import pytest

import fastmeta as fm
from fastmeta.tasks.text import grams


def test_what_is_counted():
    assert list(grams("My  Cat!")) == [
        "my",
        "cat",
        "my cat",
        "#<my",
        "#my>",
        "#<my>",
        "#<ca",
        "#cat",
        "#at>",
        "#<cat",
        "#cat>",
    ]


def test_rows_are_of_length_1_and_case_does_not_count():
    rows = fm.tasks.hashed_text(["Where is my card?", "where is my card", "¿?", ""], features=64)
    assert rows.shape == (4, 64)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[1])


def test_texts_without_a_common_gram_are_nearly_orthogonal_on_average():
    rng = np.random.default_rng(0)
    texts = ["".join(letters) for letters in rng.choice(list("abcdefghijklmnopqrstuvwxyz "), (200, 40))]
    products = fm.tasks.hashed_text(texts) @ fm.tasks.hashed_text(texts).T
    apart = products[~np.eye(200, dtype=bool)]
    assert abs(apart.mean()) < 4 / np.sqrt(2048 * 200)
    assert np.abs(apart).max() < 0.3


def test_the_same_row_everywhere():
    """The places and signs of one text, so that a saved learner reads what it was trained on."""
    row = fm.tasks.hashed_text(["pay"], features=16)[0]
    expected = np.zeros(16)
    for number, sign in PLACES:
        expected[number] += sign
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), rtol=1e-6)


PLACES = ((14, 1), (0, 1), (1, 1), (7, -1), (15, 1), (11, 1))  # of pay, <pa, pay, ay>, <pay and pay>


def test_bad_input():
    with pytest.raises(TypeError, match=r"texts hold 3 but must be strings"):
        fm.tasks.hashed_text(["a", 3])
    with pytest.raises(ValueError, match="features=0 must be"):
        fm.tasks.hashed_text(["a"], features=0)
