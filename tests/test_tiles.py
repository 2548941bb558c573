"""The sliding window: where tiles start, what they weigh, and logits the original printed for the same little network."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl.models.tiles import gaussian, make_logits, tile_starts

PATCH = (8, 6)


def place(tiles):
    """A network that looks at where in the tile a pixel is, so that mirrors and tiles all count. Given to the original as well."""
    _, h, w, _ = tiles.shape
    y, x = jnp.arange(h)[:, None, None] / h, jnp.arange(w)[None, :, None] / w
    return jnp.concatenate([tiles * (1 + y), tiles * x - 0.5 * y, y * x + 0 * tiles], axis=-1)


def image(h, w):
    return np.cos(0.37 * np.arange(h * w)).reshape(h, w, 1)


# Printed by nnunetv2 2.8.1's predictor, its weights and sums made float32: size, mirrors; logits of the first, the middle, the last pixel
# and (2, 4); their sum. (In float16, as it comes, the first logit of the first row is 1.4209: a corner's weight has one digit there.)
PREDICTED = [
    ((21, 13), ("rows", "columns"), [1.4375, 0.197917, 0.182292], [1.435364, 0.197298, 0.182292], [1.428964, 0.195442, 0.182292],
     [0.149839, -0.175318, 0.182292], -7.5654),
    ((21, 13), ("columns",), [1, 0.416667, 0], [1.501719, 0.164071, 0.20998], [1.863865, -0.023308, 0.364583],
     [0.130295, -0.081568, 0.104167], -8.1812),
    ((21, 13), (), [1, 0, 0], [1.501719, 0.381263, 0.319598], [1.863865, 0.390885, 0.729167], [0.130295, -0.072882, 0.125], -2.2237),
    ((5, 13), ("rows", "columns"), [1.4375, 0.197917, 0.182292], [1.07466, 0.092746, 0.182292], [0.16931, -0.169675, 0.182292],
     [0.149839, -0.175318, 0.182292], -6.253),
    ((3, 5), ("rows",), [1.4375, -0.21875, 0], [-1.224306, -0.502647, 0.145833], [0.64796, 0.081753, 0.291667],
     [0.64796, 0.081753, 0.291667], -4.1667),
    ((8, 6), ("rows", "columns"), [1.4375, 0.197917, 0.182292], [-1.213925, -0.570612, 0.182292], [0.159579, -0.172495, 0.182292],
     [1.343732, 0.170738, 0.182292], -5.6433),
]  # fmt: skip


@pytest.mark.parametrize("size, patch, starts", [
    (110, 64, [0, 23, 46]), (64, 64, [0]), (1024, 768, [0, 256]), (65, 64, [0, 1]), (100, 32, [0, 14, 27, 41, 54, 68]),
    (301, 64, [0, 30, 59, 89, 118, 148, 178, 207, 237]), (37, 10, [0, 4, 9, 14, 18, 22, 27]), (23, 7, [0, 3, 6, 10, 13, 16]),
    (101, 50, [0, 17, 34, 51]), (1024, 512, [0, 256, 512])])  # fmt: skip
def test_tile_starts_of_the_original(size, patch, starts):
    assert tile_starts(size, patch) == starts


def test_tile_starts_of_other_shares():
    assert tile_starts(110, 64, 0.25) == [0, 15, 31, 46] and tile_starts(70, 64, 1.0) == [0, 6]
    for bad in ((63, 64), (64, 64, 0), (64, 64, 1.5)):
        with pytest.raises(ValueError, match="expected"):
            tile_starts(*bad)


def test_gaussian_of_the_original():
    even = gaussian(PATCH, dtype=np.float64)  # compute_gaussian((8, 6), 1/8, 10) in float64
    np.testing.assert_allclose(
        even[0], [1.1253517471925912e-06, 9.582657960536532e-05, 0.0013791280933656196, 0.0033546262790251184, 0.0013791280933656196,
                  9.582657960536532e-05], rtol=1e-12)  # fmt: skip
    np.testing.assert_allclose(even[4], [0.003354626279, 0.285655007846, 4.111122905072, 10, 4.111122905072, 0.285655007846], rtol=1e-11)
    np.testing.assert_allclose(even.sum(), 47.11042113355472, rtol=1e-12)
    np.testing.assert_allclose(even[0, 0], 10 * np.exp(-16), rtol=1e-12)
    odd = gaussian((5, 4), dtype=np.float64)
    some = [odd[0, 0], odd[2, 1], odd.sum()]
    np.testing.assert_allclose(some, [2.0047323447642703e-05, 1.3533528323661272, 19.92971321742349], rtol=1e-12)
    assert gaussian(PATCH).dtype == np.float32
    half = gaussian(PATCH, dtype=np.float16)  # as the original rounds it
    np.testing.assert_allclose(half[0, :4].astype(float), [1.1324882507e-06, 9.5844268799e-05, 0.0013790130615, 0.0033550262451], rtol=1e-9)
    np.testing.assert_allclose(half.astype(np.float32).sum(), 47.110904693603516, rtol=1e-6)
    np.testing.assert_allclose(gaussian((64, 48)).sum(), 3015.5352674629803, rtol=1e-6)
    low = gaussian(PATCH, peak=1e-2, dtype=np.float16)  # here a corner falls below float16: it takes the smallest value there is
    np.testing.assert_allclose(low[0, :3].astype(float), [5.960464477539063e-08, 1.1920928955078125e-07, 1.3709068298339844e-06])


@pytest.mark.parametrize("size, mirror, first, middle, last, fifth, total", PREDICTED, ids=[f"{s} {m}" for s, m, *_ in PREDICTED])
def test_logits_of_the_original(size, mirror, first, middle, last, fifth, total):
    got = make_logits(place, patch=PATCH, mirror=mirror, batch=4)(image(*size))
    assert got.shape == (*size, 3) and got.dtype == np.float32
    h, w = size
    np.testing.assert_allclose([got[0, 0], got[h // 2, w // 2], got[-1, -1], got[2, 4]], [first, middle, last, fifth], atol=2e-6)
    np.testing.assert_allclose(got.sum(), total, atol=1e-3)


def by_hand(picture, starts, mirrors):
    """Weighted mean over tiles, each the mean over mirrors, in float64 with loops."""
    ys, xs = np.mgrid[:8, :6]
    weight = np.exp(-((ys - 4) ** 2) / 2.0 - (xs - 3) ** 2 / (2 * 0.75**2))
    total, weights = np.zeros((*picture.shape[:2], 3)), np.zeros((*picture.shape[:2], 1))
    for y in starts[0]:
        for x in starts[1]:
            tile = picture[y : y + 8, x : x + 6].astype(np.float64)
            mean = np.zeros((8, 6, 3))
            for up, side in mirrors:
                seen = tile[:: -1 if up else 1, :: -1 if side else 1]
                answer = np.concatenate([seen * (1 + ys[..., None] / 8), seen * xs[..., None] / 6 - ys[..., None] / 16,
                                         ys[..., None] * xs[..., None] / 48 + 0 * seen], -1)  # fmt: skip
                mean += answer[:: -1 if up else 1, :: -1 if side else 1] / len(mirrors)
            total[y : y + 8, x : x + 6] += mean * weight[..., None]
            weights[y : y + 8, x : x + 6] += weight[..., None]
    return total / weights


def test_logits_to_seven_digits():
    starts = [[0, 4, 7], [0, 3]]  # 15 by 8: (15 - 8) / 2 = 3.5, which rounds to the even 4; (9 - 6) / 1
    got = make_logits(place, patch=PATCH, batch=3)(image(15, 9))
    np.testing.assert_allclose(got, by_hand(image(15, 9), starts, [(0, 0), (1, 0), (0, 1), (1, 1)]), atol=2e-6)
    rows = make_logits(place, patch=PATCH, mirror=("rows",), batch=3)(image(15, 9))
    np.testing.assert_allclose(rows, by_hand(image(15, 9), starts, [(0, 0), (1, 0)]), atol=2e-6)


def test_one_compilation_for_images_of_any_size_that_share_batches():
    traced, batches = [], []

    def network(tiles, gain):
        traced.append(tiles.shape)
        return place(tiles) * gain

    def counted(function):
        compiled = jax.jit(function)

        def run(tiles, *arguments):
            batches.append(len(tiles))
            return compiled(tiles, *arguments)

        return run

    pictures = [image(21, 13), image(3, 5), image(8, 6), image(9, 40)]  # 5 * 4, 1, 1 and 2 * 13 tiles
    gain = np.float32(2)
    f = make_logits(network, patch=PATCH, mirror=("columns",), batch=5, jit=counted)
    together = f.many(pictures, gain)
    assert batches == [5] * 10  # 48 tiles, the last batch filled up
    alone = [f(picture, gain) for picture in pictures]
    assert traced == [(10, 8, 6, 1)]
    for a, b, picture in zip(together, alone, pictures, strict=True):
        assert a.shape[:2] == picture.shape[:2]
        np.testing.assert_array_equal(a, b)
    half = make_logits(place, patch=PATCH, mirror=("columns",), batch=5).many(pictures)
    for a, b in zip(together, half, strict=True):
        np.testing.assert_allclose(a, 2 * b, atol=1e-5)
    assert f.many([], gain) == []
    taken = []
    stream = f.each((taken.append(i) or p for i, p in enumerate(pictures * 2)), gain)
    next(stream)
    assert len(taken) == 4  # an image is read when its tiles are due


def test_four_devices_share_the_tiles_and_exchange_nothing():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    split, programs = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")), []

    def on_mesh(function):
        compiled = jax.jit(function, in_shardings=split, out_shardings=split)

        def run(tiles):
            programs.append(programs or compiled.lower(tiles).compile().as_text())
            return compiled(jax.device_put(tiles, split))

        return run

    one, four = (make_logits(place, patch=PATCH, batch=8, jit=jit)(image(21, 13)) for jit in (None, on_mesh))
    np.testing.assert_array_equal(one, four)
    assert "all-" not in programs[0] and "permute" not in programs[0]


def test_known_values():
    for mirror in ((), ("rows",), ("rows", "columns")):
        same = make_logits(lambda tiles: tiles, patch=PATCH, mirror=mirror, batch=2)
        np.testing.assert_allclose(same(image(19, 11)), image(19, 11), atol=1e-6)
    single = make_logits(lambda tiles: tiles, patch=PATCH, mirror=(), batch=2)(image(8, 4))
    np.testing.assert_array_equal(single, image(8, 4).astype(np.float32))  # one tile: bit for bit
    half = make_logits(lambda tiles: tiles.astype(jnp.bfloat16), patch=PATCH, batch=1)(image(9, 6))
    assert half.dtype == np.float32


def test_mistakes_are_refused():
    for options in ({"mirror": ("up",)}, {"mirror": ("rows", "rows")}):
        with pytest.raises(ValueError, match="'rows' and 'columns'"):
            make_logits(place, patch=PATCH, batch=1, **options)
    with pytest.raises(ValueError, match="at least 1"):
        make_logits(place, patch=PATCH, batch=0)
    with pytest.raises(ValueError, match=r"\[h, w, C\]"):
        make_logits(place, patch=PATCH, batch=1)(np.zeros((9, 9)))
    with pytest.raises(ValueError, match="8 x 6 with 4 x 6"):
        make_logits(lambda tiles: tiles[:, ::2], patch=PATCH, mirror=(), batch=1)(image(9, 9))
