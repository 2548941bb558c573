"""nnU-Net's augmentation: its dice, the one reading of image and label, and the whole, against the original's own output and counts."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl.augment import nnunet

DRAWS = 6000


@functools.cache
def dice(**how):
    return jax.tree.map(np.asarray, jax.jit(lambda key: nnunet.draw(key, DRAWS, 2, **how))(jax.random.key(1)))


def counted(hits, probability, times=DRAWS):
    """Whether a count lies within five standard deviations of a binomial's mean."""
    return abs(np.sum(hits) - times * probability) < 5 * np.sqrt(times * probability * (1 - probability))


@pytest.mark.parametrize(
    "name, chance, low, high, neutral",
    [
        ("angle", 0.2, -np.pi, np.pi, 0),
        ("zoom", 0.2, 0.7, 1.4, 1),
        ("noise", 0.1, 0, 0.1, 0),
        ("blur", 0.2, 0.5, 1, 0),
        ("resolution", 0.25, 0.5, 1, 1),
    ],
)
def test_uniform_dice(name, chance, low, high, neutral):
    value = getattr(dice(), name)
    drawn = value.reshape(DRAWS, -1) != neutral
    assert counted(drawn[:, 0], chance / 2 if value.ndim > 1 else chance)
    if value.ndim > 1:  # a channel takes part by its own coin: both do in a quarter of the samples that change
        assert counted((value != neutral).reshape(DRAWS, 2, -1).any(axis=-1).all(axis=1), chance / 4)
    value = value[value != neutral]
    assert low <= value.min() < low + 0.02 * (high - low) and high - 0.02 * (high - low) < value.max() <= high
    error = (high - low) / np.sqrt(12 * len(value))
    assert abs(value.mean() - (low + high) / 2) < 5 * error and counted(value < (low + high) / 2, 0.5, len(value))


@pytest.mark.parametrize(
    "name, chance, low, high",
    [("brightness", 0.15, 0.75, 1.25), ("contrast", 0.15, 0.75, 1.25), ("gamma_inverted", 0.1, 0.7, 1.5), ("gamma", 0.3, 0.7, 1.5)],
)
def test_dice_around_one(name, chance, low, high):
    value = getattr(dice(), name)
    drawn = (value != 1).all(axis=1)
    assert counted(drawn, chance) and (value[~drawn] == 1).all()
    value = value[drawn]
    assert (value[:, 0] != value[:, 1]).all()
    below, above = value[value < 1], value[value > 1]
    assert counted(value[:, 0] < 1, 0.5, len(value)) and counted((value < 1).all(axis=1), 0.25, len(value))
    assert low <= below.min() < low + 0.01 and 0.99 < below.max() and above.min() < 1.01 and high - 0.02 < above.max() <= high
    for part, middle, length in ((below, (low + 1) / 2, 1 - low), (above, (1 + high) / 2, high - 1)):
        assert abs(part.mean() - middle) < 5 * length / np.sqrt(12 * len(part))


def test_dice_are_independent():
    d = dice()
    assert counted((d.angle != 0) & (d.zoom != 1), 0.04) and counted((d.noise != 0) & (d.gamma[:, 0] != 1), 0.03)
    assert counted((d.contrast[:, 0] != 1) & (d.brightness[:, 0] != 1), 0.15**2)
    blur = d.blur[d.blur[..., 0] != 0]
    assert abs(np.corrcoef(blur.T)[0, 1]) < 5 / np.sqrt(len(blur))
    assert counted(d.flip[:, 0], 0.5) and counted(d.flip[:, 1], 0.5) and counted(d.flip.all(axis=1), 0.25)


def test_smaller_turns_and_fewer_mirrors():
    d = dice(turn=15.0, mirror=("columns",))
    assert 14.8 < np.degrees(np.abs(d.angle)).max() <= 15 + 1e-4
    assert not d.flip[:, 0].any() and counted(d.flip[:, 1], 0.5)


# From the original's SpatialTransform, patch (5, 6) of the (9, 8) image and label below: angle, zoom, the image's row 0 and 3, the label.
I, J = np.indices((9, 8))
IMAGE, LABEL = np.sin(1.3 * I + 0.7 * J * J), (I // 3 + J // 2) % 4 - (I + J > 13)
ORIGINAL = [
    (0.6, 1, "-.7400 -.6873 -.0565 .1792 .5554 -.1162", "-.8484 .5176 -.4111 -.7881 -.6922 -.5948", "112122 122222 222333 333330 330300"),
    (0, 0.75, "-.3309 -.1523 .0077 .6503 .7548 .4186", ".4011 .1960 -.1451 -.7441 -.8427 -.5271", "112223 222333 222333 222333 233300"),
    (-2, 1.3, "-.4426 .1775 -.1859 .3791 .8477 .3594", "-.1847 .6449 -.2159 .8623 .3322 .3298", "300000 333303 223233 212222 111112"),
    (0.3, 1.4, ".0273 .1137 -.7883 .6193 -.3274 .3259", ".5290 -.7238 .4084 -.7690 -.1033 .5130", "o01123 112223 112300 233300 23001o"),
]


@functools.partial(jax.jit, static_argnames="size")
def read(image, label, angle, zoom, flip, *, size):
    shape = image.shape[1:3]
    image = nnunet.read_image(image, *nnunet.places(shape, size, angle, zoom))
    return image, nnunet.read_label(label, *nnunet.places(shape, size, angle, zoom, flip))


def test_one_reading_is_the_originals():
    angle, zoom = (jnp.array([case[k] for case in ORIGINAL], jnp.float32) for k in (0, 1))
    image, label = jnp.tile(jnp.asarray(IMAGE, jnp.float32)[..., None], (4, 1, 1, 2)), jnp.tile(jnp.asarray(LABEL, jnp.int16), (4, 1, 1))
    flip = jnp.array([[0, 0], [0, 0], [1, 0], [1, 1]], bool)
    image, label = read(image, label, angle, zoom, flip, size=(5, 6))
    for k, (_, _, *rows, classes) in enumerate(ORIGINAL):
        for c in range(2):
            np.testing.assert_allclose(image[k, [0, 3], :, c], [np.array(row.split(), float) for row in rows], atol=8e-5)
        expected = np.array([[-1 if c == "o" else int(c) for c in row] for row in classes.split()])
        np.testing.assert_array_equal(label[k], expected[:: -1 if k > 1 else 1, :: -1 if k > 2 else 1])


@pytest.mark.parametrize("size", [(6, 5), (12, 9)])
def test_without_turn_or_zoom_the_middle_is_cut_out_exactly(size):
    shape = 9, 8
    rng = np.random.default_rng(0)
    image, label = rng.normal(size=(1, *shape, 1)).astype(np.float32), rng.integers(-1, 4, (1, *shape))
    found = read(jnp.asarray(image), jnp.asarray(label), jnp.zeros(1), jnp.ones(1), jnp.zeros((1, 2), bool), size=size)
    for x, y, beyond in zip((image[0, ..., 0], label[0]), (found[0][0, ..., 0], found[1][0]), (0, -1), strict=True):
        wide = np.pad(x, 10, constant_values=beyond)
        top, left = (10 + side // 2 - s // 2 for side, s in zip(shape, size, strict=True))
        np.testing.assert_array_equal(y, wide[top : top + size[0], left : left + size[1]])


def test_votes():
    """By hand, and the original says the same of each."""
    many = [[3, 3, 1], [0, 2, 2], [5, 5, 0]]
    cases = [  # label, row, column, class
        (many, 0, 1.5, 1),  # a tie of 3 and 1: the even pixel, 2, is nearest
        (many, 0.5, 0, 3),
        (many, 1.5, 0, 5),  # ties again: pixels 0 and 2
        (many, 0.4, 0.4, 3),  # two pixels of four
        (many, 0.55, 0.55, 3),  # 2 lies nearest and has 0.3025; the two 3 have 0.45
        (many, 0.49, 0, 3),
        (many, 0.51, 0, 0),
        (many, -0.4, 0, 3),
        (many, -0.6, 0, -1),
        (many, -7, 40, -1),
        ([[5, 2, 0], [4, 0, 0], [0, 0, 0]], 0.4, 0.4, 5),  # 0.36 against 0.24, 0.24, 0.16
        ([[5, 2, 0], [2, 0, 0], [0, 0, 0]], 0.4, 0.4, 2),  # 0.36 against 0.48
        ([[5, 2, 0], [2, 0, 0], [0, 0, 0]], 0.33335, 0.33335, 5),  # 444.42 against 444.45 thousandths: a tie in half precision
        ([[5, 2, 0], [2, 0, 0], [0, 0, 0]], 0.335, 0.335, 2),
        ([[5, 2, 0], [2, 5, 0], [0, 0, 0]], 0.5, 0.5, 5),  # half and half: the nearest, whichever number it bears
        ([[2, 5, 0], [5, 2, 0], [0, 0, 0]], 0.5, 0.5, 2),
        ([[0, 0, 5], [1, 3, 0], [2, 1, 0]], 1.25, 0.5, 1),  # 3, nearest to none of it, loses to 1
    ]
    label, row, column, expected = zip(*cases, strict=True)
    places = [jnp.array(x, jnp.float32)[:, None, None] for x in (row, column)]
    np.testing.assert_array_equal(jax.jit(nnunet.read_label)(jnp.array(label), *places)[:, 0, 0], expected)


def body(n):
    """n images of 12 x 12 whose upper half is class 1, with a margin of OUTSIDE on the left."""
    label = np.zeros((n, 12, 12), np.int16)
    label[:, :6] = 1
    label[:, :, :4] = -1
    return jnp.asarray(label == 1, jnp.float32)[..., None], jnp.asarray(label)


@functools.partial(jax.jit, static_argnames="upright")
def pair(key, image, label, upright):
    return nnunet.nnunet_pair(key, image, label, size=(8, 8), upright=upright)


def test_upright_keeps_the_probe_on_top_and_each_sample_draws_for_itself():
    image, label = body(300)
    changed, classes = (np.asarray(x) for x in pair(jax.random.key(0), image, label, True))
    assert changed.shape == (300, 8, 8, 1) and changed.dtype == np.float32
    assert classes.dtype == np.int32 and set(np.unique(classes)) == {0, 1}
    assert (classes[:, :2].sum(axis=(1, 2)) > 0).all() and not classes[:, 6:].any()
    left = classes[:, :, 0].sum(axis=1) > classes[:, :, -1].sum(axis=1)  # mirrored about the columns: half of them
    assert counted(left, 0.5, 300)
    assert len(np.unique(changed.reshape(300, -1), axis=0)) > 150  # one image, four mirrorings: at most 4 if they drew alike
    again, _ = pair(jax.random.key(0), image, label, True)
    np.testing.assert_array_equal(again, changed)


@pytest.mark.slow
def test_the_faithful_chain_turns_half_of_them_upside_down():
    _, classes = pair(jax.random.key(0), *body(300), False)
    assert counted(np.asarray(classes[:, -2:]).sum(axis=(1, 2)) > np.asarray(classes[:, :2]).sum(axis=(1, 2)), 0.5, 300)


def test_unknown_axis():
    with pytest.raises(ValueError, match="'depth'"):
        nnunet.nnunet_pair(jax.random.key(0), *body(1), size=(8, 8), mirror=("depth",))
