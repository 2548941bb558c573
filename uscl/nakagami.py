"""The Nakagami model of speckle: r^2 ~ Gamma(shape m, scale omega / m). m = 1 is fully developed speckle (Rayleigh), below it is
pre-Rayleigh, above it Rician-like; omega = E[r^2].

The model is one of the *envelope*. A B-mode image shows the logarithm of the envelope, and the moment estimate taken on gray values is
no longer the tissue's m; simulated, gray = clip(1 + (20 log10 r - head) / range) with the envelope's rms below white as given:

    true m   dynamic range, rms below white   m on gray   mean / sd of gray
    1.0      60 dB, 10 dB                     21.2        8.5
    1.0      60 dB, 30 dB                     8.1         5.0
    1.0      40 dB, 30 dB                     1.37        1.74
    0.4      60 dB, 10 dB                     5.7         3.8
    0.4      60 dB, 30 dB                     2.5         2.3
    1.5      60 dB, 30 dB                     13.5        6.8

Gain alone moves m on gray 2.6-fold and the dynamic range 6-fold, and on gray m follows from the mean: m and omega say the same thing
twice. So undo the compression first (`decompress`), or call m on gray a texture descriptor. A region that spans two tissues, or holds
bright outliers (1 % at +20 dB: 0.04 for 1), has a low moment m as well. All functions compute in float32.
"""
import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, polygamma, xlogy

_TINY = 1e-12  # a mass, or a power relative to the largest, below this is none


def fit(x, weight=None, *, method="moments", axis=None, eps=1e-6) -> tuple[jax.Array, jax.Array]:
    """Estimates (m, omega) of an envelope. With p = x^2, P = E[p] (weighted), q = p / P and D = ln P - E[ln p]:

    moments      m = P^2 / E[(p - P)^2]                          robust to zeros, not to bright outliers
    mle          ln m - digamma(m) = D                           Newton from the Greenwood-Durand start; half the moments' sd at m <= 1
    closed_form  m = P / (E[p ln p] - P E[ln p])                 Ye and Chen 2017; close to mle without special functions
    omega = P, in the units of x squared

    Zeros count in `moments` and in omega, but have no logarithm: the other two leave them out and fit the positive values.

    Args: x, >= 0 and finite; weight, >= 0, broadcast against x; None: ones; method, one of the three; axis, the axes that are summed
    over (None: all); eps, added to 1 / m so that a constant region gets 1 / eps.

    Returns: m and omega, float32, of the broadcast shape without `axis`. Both are 0 where there is no weight or x is 0 throughout; a
    power below 1e-12 of the largest counts as 0. Differentiable in x and weight. Raises: ValueError for an unknown method.

    Known values, to within eps: x^2 in {0, 2} with equal weights: moments (1, 1). x^2 in {1, 3}: moments (4, 2). x = 1: (1 / eps, 1).
    """
    if method not in ("moments", "mle", "closed_form"):
        raise ValueError(f"method: found {method!r}; allowed are 'moments', 'mle' and 'closed_form'")
    x = jnp.asarray(x).astype(jnp.float32)
    weight = jnp.ones_like(x) if weight is None else jnp.asarray(weight).astype(jnp.float32)
    x, weight = jnp.broadcast_arrays(x, weight)
    scale = jax.lax.stop_gradient(jnp.abs(x).max(axis=axis, keepdims=True))  # fourth powers of an RF envelope would overflow
    p = jnp.square(x / jnp.where(scale > 0, scale, 1.0))
    power = _mean(p, weight, axis)
    omega = power * jnp.square(scale)
    if method != "moments":
        weight = jnp.where(p > 0, weight, 0.0)
        power = _mean(p, weight, axis)
    some = power > _TINY
    q = p / jnp.where(some, power, 1.0)  # everything below is free of the scale of x
    if method == "moments":
        m = 1 / (_mean(jnp.square(q - 1), weight, axis) + eps)
    else:
        log = jnp.log(jnp.where(q > 0, q, 1.0))
        if method == "closed_form":  # E[q ln q] - E[ln q], a sum of terms >= 0
            m = 1 / (_mean((q - 1) * log, weight, axis) + eps)
        else:
            m = _inverse(jnp.maximum(-_mean(log, weight, axis), eps / 2))
    return tuple(jnp.squeeze(value, axis) for value in (jnp.where(some, m, 0.0), omega))


def _mean(x, weight, axis) -> jax.Array:
    mass = weight.sum(axis=axis, keepdims=True)
    some = mass > _TINY
    return jnp.where(some, (weight * x).sum(axis=axis, keepdims=True) / jnp.where(some, mass, 1.0), 0.0)


def _inverse(d, steps=4) -> jax.Array:
    """The m with ln m - digamma(m) = d. The gradient goes through the last step alone, where it is the implicit one, 1 / slope."""
    low = (0.5000876 + 0.1648852 * d - 0.0544274 * d**2) / d
    high = (8.898919 + 9.059950 * d + 0.9775373 * d**2) / (d * (17.79728 + 11.968477 * d + d**2))
    m = jnp.where(d <= 0.5772, low, high)
    for _ in range(steps):
        m = jax.lax.stop_gradient(m)
        small = jnp.minimum(m, 10.0)
        u = 1 / jnp.maximum(m, 10.0)  # ln m - digamma(m) itself would cancel there
        value = jnp.where(m < 10, jnp.log(small) - digamma(small), u / 2 + u**2 / 12 - u**4 / 120)
        slope = jnp.where(m < 10, 1 / small - polygamma(1, small), -(u**2) / 2 - u**3 / 6 + u**5 / 30)
        m = jnp.maximum(m + (d - value) / slope, m / 2)
    return m


def log_pdf(x, m, omega) -> jax.Array:
    """ln f(x) = ln 2 + m ln(m / omega) - ln Gamma(m) + (2m - 1) ln x - m x^2 / omega, per unit of x; -inf for x < 0.

    x, m > 0 and omega > 0 broadcast. At x = 0 the density is 0 for m > 1/2, finite at 1/2 and infinite below.
    Known value: x = m = omega = 1 gives ln 2 - 1.
    """
    x, m, omega = (jnp.asarray(v).astype(jnp.float32) for v in (x, m, omega))
    inside = jnp.where(x > 0, x, 1.0)
    common = jnp.log(2.0) + xlogy(m, m / omega) - gammaln(m)
    body = common + (2 * m - 1) * jnp.log(inside) - m * jnp.square(inside) / omega
    at_zero = jnp.where(m == 0.5, common, jnp.where(m > 0.5, -jnp.inf, jnp.inf))
    return jnp.where(x > 0, body, jnp.where(x == 0, at_zero, -jnp.inf))


def sample(key, m, omega, shape) -> jax.Array:
    """Independent envelope values of the given shape, against which m and omega broadcast: the root of a gamma, drawn as a logarithm."""
    m, omega = (jnp.asarray(v).astype(jnp.float32) for v in (m, omega))
    return jnp.exp((jax.random.loggamma(key, m, shape, jnp.float32) + jnp.log(omega / m)) / 2)


def kl(m1, o1, m2, o2) -> jax.Array:
    """KL(Nakagami(m1, o1) || Nakagami(m2, o2)) in nats, in closed form: that of the gammas of r^2, which squaring leaves unchanged.

    With s = o / m:  (m1 - m2) digamma(m1) - ln Gamma(m1) + ln Gamma(m2) + m2 ln(s2 / s1) + m1 (s1 / s2 - 1).
    Arguments > 0 broadcast. Known values: 0 for equal arguments; kl(1, 1, 1, 2) = ln 2 - 1/2.
    """
    m1, o1, m2, o2 = (jnp.asarray(v).astype(jnp.float32) for v in (m1, o1, m2, o2))
    ratio = (o1 / m1) / (o2 / m2)
    return (m1 - m2) * digamma(m1) - gammaln(m1) + gammaln(m2) - m2 * jnp.log(ratio) + m1 * (ratio - 1)


def parameter_map(x, valid=None, *, window) -> tuple[jax.Array, jax.Array]:
    """Moment estimates of (m, omega) in a sliding square window, one per pixel (the Nakagami image).

    A window's side should be three pulse lengths or more (2 cycles at 3.5 MHz: 2.6 mm).

    Args: x [H, W] envelope >= 0; valid [H, W] bool, None: everywhere; window, side [pixels].

    Returns: m in [0.05, 10] and omega, [H, W] float32. Only valid pixels inside the image count, also at its edges; both are 0 where
    they are fewer than half of the window's pixels inside the image. Raises: ValueError for a window below 1.
    Known value: at a pixel whose window is valid throughout, `fit` of that window, clipped.
    """
    x = jnp.asarray(x).astype(jnp.float32)
    if window < 1 or x.ndim != 2:
        raise ValueError(f"x [H, W] and a window of 1 or more pixels expected: found {x.shape} and {window}")
    valid = jnp.ones(x.shape, bool) if valid is None else jnp.asarray(valid, bool)
    x = jnp.where(valid, x, 0.0)
    scale = jnp.where(x.max() > 0, x.max(), 1.0)

    def box(image):
        for dimensions in ((window, 1), (1, window)):
            image = jax.lax.reduce_window(image, 0.0, jax.lax.add, dimensions, (1, 1), "SAME")
        return image

    p = jnp.square(x / scale)
    count = box(valid.astype(jnp.float32))
    known = (count > 0) & (2 * count >= box(jnp.ones_like(x)))
    share = 1 / jnp.maximum(count, 1.0)
    power = box(p) * share
    some = known & (power > _TINY)
    # Both sums run over one window only, so in float32 the uncentred second moment serves any m below the clip.
    variation = box(jnp.square(p)) * share / jnp.square(jnp.where(some, power, 1.0)) - 1
    m = jnp.clip(1 / jnp.maximum(variation, 0.05), 0.05, 10.0)
    return jnp.where(some, m, 0.0), jnp.where(known, power * jnp.square(scale), 0.0)


def log_compress(envelope, *, dynamic_range, reference=1.0) -> jax.Array:
    """gray = clip(1 + 20 log10(envelope / reference) / dynamic_range, 0, 1): the reference is white, dynamic_range dB below it is black."""
    ratio = jnp.asarray(envelope).astype(jnp.float32) / reference
    some = ratio > 0
    level = 1 + 20 * jnp.log10(jnp.where(some, ratio, 1.0)) / dynamic_range
    return jnp.where(some, jnp.clip(level, 0.0, 1.0), 0.0)


def decompress(gray, *, dynamic_range) -> jax.Array:
    """The envelope over its reference, 10^(dynamic_range (gray - 1) / 20), of gray in [0, 1] and a range in dB.

    Black and white are censored: the true value lies at or below what is returned for 0, at or above the 1 returned for 1.
    Known value: gray 1/2 under 60 dB is 10^-1.5.
    """
    return jnp.power(10.0, dynamic_range * (jnp.asarray(gray).astype(jnp.float32) - 1) / 20)
