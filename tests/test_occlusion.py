"""Occlusion saliency: linear models by hand, a loop in float64 that hides each window in turn, embeddings, baselines."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl.occlusion import Windows, embedding_distance, occlusion


def by_loops(score, clip, window, stride, shown):
    """Every window in turn, written into a copy; float64."""
    begins = []
    for n, w, s in zip(clip.shape, window, stride, strict=False):
        begins.append([0])
        while begins[-1][-1] + w < n:
            begins[-1].append(begins[-1][-1] + s)
    total, count = np.zeros(clip.shape[:3]), np.zeros(clip.shape[:3])
    for corner in itertools.product(*begins):
        where = tuple(slice(b, b + w) for b, w in zip(corner, window, strict=True))
        hidden = clip.copy()
        hidden[where] = shown[where]
        total[where] += score(clip) - score(hidden)
        count[where] += 1
    return total / count


def explained(score, clip, **given):
    return np.asarray(jax.jit(partial(occlusion, score, **given))(np.float32(clip)))


def halves(shape, seed=0):
    """Small multiples of 1/2, whose sums are exact in float32."""
    return np.random.default_rng(seed).integers(-8, 9, shape) / 2


def test_a_linear_model_gives_exact_window_sums():
    clip, w = halves((4, 6, 7, 2)), halves((4, 6, 7, 2), 1)
    saliency = explained(lambda x: (x * w).sum((1, 2, 3, 4)), clip, window=(2, 3, 3), stride=(2, 3, 3))
    assert saliency.shape == (4, 6, 7) and saliency.dtype == np.float32
    for t, y, x in itertools.product(range(0, 4, 2), range(0, 6, 3), range(0, 7, 3)):  # the third column of windows is cut to one pixel
        block = np.s_[t : t + 2, y : y + 3, x : x + 3]
        assert (saliency[block] == (w * clip)[block].sum()).all()


def test_all_frames_at_once_give_one_picture():
    clip, w = halves((3, 4, 4, 1)), halves((3, 4, 4, 1), 1)
    saliency = explained(lambda x: (x * w).sum((1, 2, 3, 4)), clip, window=(3, 2, 2), stride=(1, 2, 2), baseline=0.5)
    expected = (w * (clip - 0.5)).sum((0, 3)).reshape(2, 2, 2, 2).sum((1, 3))
    assert np.array_equal(saliency, expected.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("window,stride,chunk", [((2, 3, 4), (1, 2, 3), 7), ((3, 5, 2), (2, 1, 1), 1), ((1, 5, 6), (1, 3, 4), 100)])
def test_agrees_with_loops(window, stride, chunk):
    rng = np.random.default_rng(3)
    clip, w, shown = rng.random((3, 5, 6, 2)), rng.normal(size=(3, 5, 6, 2)), rng.random((1, 5, 6, 1))
    expected = by_loops(lambda x: math.tanh((x * w).sum() / 4) + (x**2).sum(), clip, window, stride, np.broadcast_to(shown, clip.shape))

    def score(x):
        assert len(x) <= chunk
        return jnp.tanh((x * w).sum((1, 2, 3, 4)) / 4) + (x**2).sum((1, 2, 3, 4))

    found = explained(score, clip, window=window, stride=stride, chunk=chunk, baseline=np.float32(shown))
    assert np.allclose(found, expected[0] if window[0] == 3 else expected, atol=2e-5)


@pytest.mark.parametrize("size,window,stride,lows", [
    (10, 3, 3, [0, 3, 6, 9]), (10, 4, 2, [0, 2, 4, 6]), (11, 4, 2, [0, 2, 4, 6, 8]), (5, 5, 1, [0])
])  # fmt: skip
def test_places_of_windows(size, window, stride, lows):
    places = Windows((1, size, 1), (1, window, 1), (1, stride, 1))
    assert places.lows[1].tolist() == lows and places.highs[1].tolist() == [min(low + window, size) for low in lows]
    assert places.count == len(lows)


def test_baselines():
    rng = np.random.default_rng(4)
    clip, w = rng.random((2, 5, 6, 2)), rng.normal(size=(2, 5, 6, 2))
    blur = np.zeros_like(clip)
    for t, y, x in np.ndindex(2, 5, 6):  # a window of (1, 3, 4): none away in time, at most one row, at most two columns
        blur[t, y, x] = clip[t, max(y - 1, 0) : y + 2, max(x - 2, 0) : x + 3].mean((0, 1))
    for baseline, shown in ((0.25, 0.25), ("mean", clip.reshape(-1, 2).mean(0)), ("blur", blur)):
        found = explained(lambda x: (x * w).sum((1, 2, 3, 4)), clip, window=(1, 3, 4), stride=(1, 3, 2), baseline=baseline)
        expected = by_loops(lambda x: (x * w).sum(), clip, (1, 3, 4), (1, 3, 2), np.broadcast_to(shown, clip.shape))
        assert np.allclose(found, expected, atol=1e-5), baseline


@pytest.mark.parametrize("distance,expected", [("euclidean", [0, -5, -math.sqrt(50), -5]), ("cosine", [0, -0.5, -1, 0])])
def test_distance_of_embeddings(distance, expected):
    clips = np.float32([[3, 4], [0, 0], [4, -3], [6, 8]]).reshape(4, 1, 1, 2, 1)

    @jax.jit
    def distances(clips):
        return embedding_distance(lambda x: x.reshape(len(x), -1), clips[0], distance=distance)(clips)

    assert np.allclose(distances(clips), expected, atol=1e-6)


def test_hiding_moves_an_embedding_by_what_was_hidden():
    clip = np.float32([[3, 4]]).reshape(1, 1, 2, 1)
    score = embedding_distance(lambda x: x.reshape(len(x), -1), clip)
    assert explained(score, clip, window=(1, 1, 1), stride=(1, 1, 1)).tolist() == [[3, 4]]


ONE = dict(window=(1, 2, 2), stride=(1, 2, 2))


@pytest.mark.parametrize("given,words", [
    (ONE | {"window": (1, 2)}, "expected"),
    (ONE | {"window": (3, 2, 2)}, "size expected"),
    (ONE | {"stride": (1, 0, 2)}, "stride"),
    (ONE | {"stride": (1, 3, 2)}, "stride"),
    (ONE | {"baseline": "noise"}, "'mean' and 'blur'"),
    (ONE | {"chunk": 0}, "at least 1"),
    (ONE | {"score": lambda x: x.mean((1, 2, 3))}, "one number a clip"),
    (ONE | {"clip": np.zeros((2, 4, 4))}, "floats expected"),
    (ONE | {"clip": np.zeros((2, 4, 4, 1), np.uint8)}, "floats expected"),
])  # fmt: skip
def test_refusals(given, words):
    given = dict(given)
    score, clip = given.pop("score", lambda x: x.mean((1, 2, 3, 4))), given.pop("clip", np.zeros((2, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match=words):
        occlusion(score, clip, **given)


def test_refusal_of_a_distance():
    with pytest.raises(ValueError, match="'euclidean' and 'cosine'"):
        embedding_distance(lambda x: x, np.zeros((1, 4)), distance="city")
