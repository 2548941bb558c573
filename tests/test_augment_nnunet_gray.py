"""Grey values as nnU-Net changes them: against arrays computed once by the original's own transforms (batchgeneratorsv2 0.3.6), and against
float64 NumPy written out pixel by pixel."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uscl.augment import nnunet, nnunet_gray

I, J = np.indices((5, 7))
X = np.sin(1.3 * I + 0.7 * J * J)

# Each row by row, from the original with the parameters named.
BLUR = """ .51423 .41990 .20452 .01024 -.25851 -.27136 -.13017 .52668 .33959 .10308 .16327 .14221 .16666 .26682
    .04807 -.07438 -.11450 .19283 .48696 .53299 .49037 -.49958 -.38153 -.16764 -.05455 .13234 .13385 .00966
    -.56629 -.33934 -.08051 -.21909 -.26890 -.30590 -.40093"""  # sigma .7 down, .95 across
CONTRAST = """.00311 .80838 .42185 .02413 -.99369 -.99369 .08712 .98936 .98936 -.99369 .98936 -.07979 -.05881 .98936
    .64749 -.19407 -.96285 .62939 .98936 .98936 .57404 -.85660 -.99369 .50917 -.87173 .71711 .69975 -.91564
    -.99369 -.46424 .98936 -.99369 -.79452 -.81059 -.99369"""  # 1.25
GAMMA = """-.11259 .63048 .25554 -.09516 -.84412 -.84342 -.04221 1.04867 .97554 -.78139 1.05458 -.18020 -.16327 1.07012
    .47062 -.27026 -.75673 .45297 1.02181 1.02914 .39942 -.70513 -.84610 .33748 -.71288 .53915 .52198 -.73463
    -.81233 -.46729 1.08373 -.80885 -.67209 -.68083 -.79715"""  # 1.4
INVERTED = """-.06539 .59921 .26330 -.04949 -.92209 -.91917 -.00151 1.03876 .94570 -.78862 1.04745 -.12758 -.11192 1.07231
    .45413 -.21205 -.75045 .43835 1.00222 1.01182 .39064 -.67862 -.93402 .33572 -.68889 .51579 .50028 -.71862
    -.84296 -.40662 1.10188 -.83631 -.63631 -.64729 -.81509"""  # .8
LOW = """0 .19142 .24408 .01681 -.69461 -.53073 .06721 .67449 .01918 -.14233 .68259 -.04796 .10806 .70571
    .13790 -.05902 -.10936 .13402 .21860 .19661 .12218 -.74647 .01163 .19942 -.75255 -.06615 -.21069 -.76949
    -.88345 .18672 .45656 -.87545 -.70592 -.72890 -.84997"""  # .72


def one(value, shape=(1,)):
    return jnp.full(shape, value, jnp.float32)


CHANGES = {
    "blur": (nnunet_gray.blur, jnp.array([[0.7, 0.95]]), BLUR),
    "contrast": (nnunet_gray.contrast, one(1.25), CONTRAST),
    "gamma": (nnunet_gray.gamma, one(1.4), GAMMA),
    "inverted": (lambda x, g: nnunet_gray.gamma(x, g, invert=True), one(0.8), INVERTED),
    "low": (nnunet_gray.low_resolution, one(0.72), LOW),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_the_originals(name):
    change, value, expected = CHANGES[name]
    neutral = jnp.zeros_like(value) if name == "blur" else jnp.ones_like(value)
    planes = jnp.asarray(np.stack([X, X]), jnp.float32)
    changed = np.asarray(jax.jit(change)(planes, jnp.concatenate([value, neutral])))
    np.testing.assert_allclose(changed[0].ravel(), np.array(expected.split(), float), atol=1.5e-5)
    np.testing.assert_array_equal(changed[1], planes[1])  # the neutral value, bit for bit


def test_taps_have_the_originals_length_and_weights():
    sigma = np.array([0.5, 0.5833, 0.5834, 0.9166, 0.9167, 1.0, 0.0])
    weights = np.asarray(jax.jit(nnunet_gray.taps)(jnp.asarray(sigma, jnp.float32)), float)
    np.testing.assert_array_equal((weights > 0).sum(axis=1), [3, 3, 5, 5, 7, 7, 1])
    np.testing.assert_allclose(weights[0, 2:5], [0.10650698, 0.78698604, 0.10650698], atol=1e-6)
    for row, half, s in zip(weights, [1, 1, 2, 2, 3, 3], sigma, strict=False):
        x = np.exp(-0.5 * (np.arange(-half, half + 1) / s) ** 2)
        np.testing.assert_allclose(row[3 - half : 4 + half], x / x.sum(), atol=1e-6)


def test_contrast_clips_to_the_range_the_plane_had():
    plane = jnp.array([[[-1.0, 0.0, 4.0]]])
    np.testing.assert_allclose(jax.jit(nnunet_gray.contrast)(plane, one(1.25)), [[[-1.0, -0.25, 4.0]]], atol=1e-6)


def test_low_resolution_of_a_ramp():
    ramp = jnp.tile(jnp.arange(8.0), (1, 8, 1))
    across = np.asarray(jax.jit(nnunet_gray.low_resolution)(ramp, one(0.5)))[0]
    np.testing.assert_array_equal(across, np.tile([1, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7], (8, 1)))


@pytest.mark.parametrize("invert", [False, True])
def test_gamma_keeps_mean_and_deviation_and_bends_the_right_end(invert):
    ramp = jnp.stack([jnp.arange(64.0).reshape(8, 8), jnp.full((8, 8), 3.0)])
    bent = np.asarray(jax.jit(nnunet_gray.gamma, static_argnames="invert")(ramp, one(1.5, (2,)), invert=invert), float)
    np.testing.assert_allclose([bent[0].mean(), bent[0].std()], [31.5, np.arange(64.0).std()], rtol=1e-5)
    np.testing.assert_allclose(bent[1], 3.0, atol=1e-6)  # a constant plane stays, and is not NaN
    step = np.diff(bent[0].ravel())
    assert (step[0] > step[-1]) == invert


def test_noise_has_the_deviation_asked_for_and_is_new_in_each_plane():
    field = np.asarray(jax.jit(nnunet_gray.noise)(jax.random.key(0), jnp.zeros((3, 128, 128)), jnp.array([0.1, 0.05, 0.0])))
    np.testing.assert_allclose(field.std(axis=(1, 2)), [0.1, 0.05, 0], rtol=0.03)  # five standard errors of 16384 pixels
    assert abs(field.mean(axis=(1, 2))).max() < 5 * 0.1 / 128 and abs(np.corrcoef(field[0].ravel(), field[1].ravel())[0, 1]) < 0.04
    assert not field[2].any()


def blurred(x, sigma):
    for axis, s in enumerate(sigma):
        half = 1 if 6 * s + 0.5 < 4 else 2 if 6 * s + 0.5 < 6 else 3
        kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / s) ** 2)
        wide = np.moveaxis(np.pad(x, [(half, half) if a == axis else (0, 0) for a in (0, 1)], mode="reflect"), axis, 0)
        lines = [np.tensordot(kernel / kernel.sum(), wide[i : i + 2 * half + 1], 1) for i in range(x.shape[axis])]
        x = np.moveaxis(np.stack(lines), 0, axis)
    return x


def lowered(x, scale):
    out = np.zeros_like(x)
    count = [round(side * scale) for side in x.shape]
    small = x[np.ix_(*[np.floor((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(count, x.shape, strict=True)])]
    for i, j in np.ndindex(x.shape):
        at = [max((k + 0.5) * n / side - 0.5, 0) for k, n, side in zip((i, j), count, x.shape, strict=True)]
        for a, b in np.ndindex(2, 2):
            k = [min(int(p) + d, n - 1) for p, d, n in zip(at, (a, b), count, strict=True)]
            out[i, j] += small[k[0], k[1]] * np.prod([p % 1 if d else 1 - p % 1 for p, d in zip(at, (a, b), strict=True)])
    return out


def bent(x, exponent):
    y = ((x - x.min()) / np.ptp(x)) ** exponent
    return (y - y.mean()) / y.std() * x.std() + x.mean()


@jax.jit
def applied(image, label, draws):
    return nnunet.apply_draws(jax.random.key(0), image, label, draws, size=(12, 14), masked=True)


def drawn(blur, brightness, contrast, resolution, inverted, power, flip):
    changes = (jnp.asarray([v], jnp.float32) for v in (blur, brightness, contrast, resolution, inverted, power))
    return nnunet.Draws(one(0.0), one(1.0), one(0.0), *changes, jnp.array([flip]))


def test_the_changes_follow_each_other_in_the_originals_order():
    """Everything but noise at once, on two channels with numbers of their own, against the same written out in float64."""
    image = np.random.default_rng(3).normal(size=(1, 14, 15, 2))
    sigma, light, spread = [[0.55, 0.8], [0.95, 0.6]], [0.8, 1.2], [1.2, 0.8]
    share, inverted, power = [0.6, 0.8], [1.4, 0.75], [0.7, 1.3]
    draws = drawn(sigma, light, spread, share, inverted, power, [True, False])
    out, _ = applied(jnp.asarray(image, jnp.float32), jnp.zeros((1, 14, 15), jnp.int16), draws)
    for c in range(2):
        x = blurred(image[0, 1:13, :14, c], sigma[c]) * light[c]
        x = np.clip((x - x.mean()) * spread[c] + x.mean(), x.min(), x.max())
        x = bent(-bent(-lowered(x, share[c]), inverted[c]), power[c])[::-1]
        np.testing.assert_allclose(out[0, ..., c], x, atol=2e-5)


def test_nothing_drawn_changes_nothing_and_a_mask_is_laid_over_again():
    rng = np.random.default_rng(4)
    image, label = rng.normal(size=(1, 14, 15, 2)).astype(np.float32), rng.integers(-1, 3, (1, 14, 15)).astype(np.int16)
    ones = [1.0, 1.0]
    out, classes = applied(jnp.asarray(image), jnp.asarray(label), drawn([[0.0, 0.0]] * 2, ones, ones, ones, ones, ones, [False, False]))
    image, label = image[:, 1:13, :14], label[:, 1:13, :14]
    np.testing.assert_array_equal(out, np.where(label[..., None] == -1, 0, image))
    np.testing.assert_array_equal(classes, np.maximum(label, 0))
