"""The fast form of occlusion saliency is the plain one: networks of convolutions and pooling, windows at corners, odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from uscl.occlusion import Windows, embedding_distance, occlusion
from uscl.occlusion_fast import Local, _crop, fast_occlusion, receptive


def convolution(seed, stride, channels, features, slope=0.1):
    """3 x 3 x 3 with padding 1, a bias and a bent line, which sees the zeros beyond the border."""
    kernel = np.float32(np.random.default_rng(seed).normal(size=(3, 3, 3, channels, features)) / (27 * channels) ** 0.5)

    def apply(x):
        out = lax.conv_general_dilated(x, kernel, stride, [(1, 1)] * 3, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")) + 0.3
        return jnp.where(out > 0, out, slope * out)

    return apply


def pooling(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2, 1), (1, 1, 2, 2, 1), "VALID")


STEM, DOWN, SECOND = convolution(0, (1, 1, 1), 1, 4), convolution(1, (2, 2, 2), 4, 4), convolution(2, (1, 2, 2), 4, 4)
HALF = Local(lambda x: DOWN(STEM(x)), (2, 2, 2), (2, 2, 2))
POOLED = Local(lambda x: pooling(STEM(x)), (1, 2, 2), (1, 2, 2))
MIXED = np.float32([1, -2, 3, 1])


def both(early, late, clip, **given):
    """The plain map, the fast one, and one that forgets the reach of the last early part; and the shapes that part saw, in one program."""
    seen = []

    def watch(x):
        seen.append(x.shape)
        return early[0].function(x)

    def whole(x):
        for part in early:
            x = part.function(x)
        return late(x)

    def run(clip):
        short = [*early[:-1], early[-1]._replace(reach=(0, 0, 0))]
        watched = [early[0]._replace(function=watch), *early[1:]]
        return occlusion(whole, clip, **given), fast_occlusion(watched, late, clip, **given), fast_occlusion(short, late, clip, **given)

    return [np.asarray(x) for x in jax.jit(run)(np.float32(clip))], seen


@pytest.mark.parametrize("early,after,shape,window,stride", [
    ([HALF, Local(SECOND, (1, 2, 2), (1, 1, 1))], lambda x: x, (5, 24, 19, 1), (2, 3, 4), (2, 3, 3)),
    ([POOLED, Local(pooling, (1, 2, 2), (0, 1, 1))], DOWN, (3, 21, 26, 1), (3, 3, 5), (3, 3, 4)),
], ids=["two parts", "pooling"])  # fmt: skip
def test_the_fast_form_is_the_plain_one(early, after, shape, window, stride):
    clip = np.random.default_rng(5).random(shape)
    given = dict(window=window, stride=stride, baseline=0.5, chunk=24)
    (plain, fast, short), seen = both(early, lambda x: jnp.tanh(after(x)).sum((1, 2, 3)) @ MIXED, clip, **given)
    assert fast.shape == plain.shape and np.abs(plain).max() > 1e-2
    assert np.abs(fast - plain).max() < 1e-5
    assert np.abs(short - plain).max() > 1e-3, "the comparison sees a reach that is too small"
    assert seen[0] == (1, *shape) and seen[1][2] < shape[1] * 2 / 3, "only a crop goes through"


def test_an_encoder_without_labels_in_one_part():
    """The rest of the network embeds features; they are compared with those of the clip."""
    clip = np.float32(np.random.default_rng(6).random((4, 21, 26, 1)))
    given = dict(window=(4, 5, 4), stride=(4, 4, 3), chunk=24)

    def embed(features):
        return SECOND(features).mean((1, 2, 3))

    def run(clip):
        late = embedding_distance(embed, HALF.function(clip[None])[0])
        plain = occlusion(embedding_distance(lambda x: embed(HALF.function(x)), clip), clip, **given)
        return plain, fast_occlusion([HALF], late, clip, **given)

    plain, fast = jax.jit(run)(clip)
    assert np.abs(fast - plain).max() < 1e-5 and plain.min() > 0


def test_crops_hold_what_is_seen_and_what_sees():
    """Of many sizes, along one axis: by asking of each input and feature whether it lies where the docstring puts it."""
    rng = np.random.default_rng(7)
    for _ in range(80):
        n, step, reach = rng.integers(1, 40), rng.integers(1, 5), rng.integers(0, 7)
        window = rng.integers(1, n + 1)
        places = Windows((n, 1, 1), (window, 1, 1), (rng.integers(1, window + 1), 1, 1))
        features = max(1, n // step + rng.integers(0, 2) * (n % step > 0))
        crop = _crop(n, features, (places.lows[0], places.highs[0]), step, reach)
        assert (n - crop.size) % step == 0 and features - crop.features == (n - crop.size) // step
        for low, high, start, first, behind in zip(places.lows[0], places.highs[0], crop.start, crop.first, crop.behind, strict=True):
            held = set(range(start, start + crop.size))
            assert start % step == 0 and held <= set(range(n)) and held >= set(range(low, high)) and 0 <= first < behind <= features
            for i in range(features):
                sees = set(range(step * i - reach, step * i + reach + 1)) & set(range(n))
                if sees & set(range(low, high)):
                    assert first <= i < behind
                if first <= i < behind:
                    assert sees <= held


@pytest.mark.parametrize("layers,expected", [
    ([], (1, 0)),
    ([(3, 1)], (1, 1)),
    ([(3, 1), (3, 2), (1, 1), (3, 1)], (2, 4)),
    ([(3, 1), (2, 2), (3, 1)], (2, 4)),
    ([(5, 2), (3, 2)], (4, 4)),
])  # fmt: skip
def test_receptive_by_hand(layers, expected):
    assert receptive(layers) == expected


def test_refusals_of_the_fast_form():
    clip = np.zeros((1, 16, 16, 1), np.float32)
    for step in ((1, 1, 1), (1, 4, 4)):
        with pytest.raises(ValueError, match=r"early\[0\]"):
            fast_occlusion([Local(pooling, step, (0, 1, 1))], lambda x: x.mean((1, 2, 3, 4)), clip, window=(1, 2, 2), stride=(1, 2, 2))
