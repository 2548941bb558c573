"""Losses of a segmentation against its truth, one value per image. Targets may be soft: augmentation warps one-hot labels."""
import jax
import jax.numpy as jnp

_TINY = 1e-12  # a sum below this is empty; its square, which the gradient of a quotient takes, is still a float32


def soft_dice(probability, target, *, background=True, absent="ignore", over="image", smooth=0.0) -> jax.Array:
    """Soft Dice loss (as Chaitanya et al. 2020 fine-tune with; what happens to an absent class is a choice here).

        loss = 1 - mean over classes of D,   D = (2 sum p g + smooth) / (sum p + sum g + smooth)

    In ultrasound a class is often absent from an image: there D is 0 whatever is predicted, a floor under the loss without a gradient.
    `absent` says what such a class does:
    ignore   it leaves the mean; an image where none is left has loss 0
    zero     it stays with D = 0 (Chaitanya's code)
    smooth   it stays with the formula's D, which is 1 when nothing of it is predicted (also for smooth = 0, as the limit)

    Args:
      probability: [B, H, W, K], in [0, 1].
      target: [B, H, W, K], one-hot or soft.
      background: False leaves channel 0 out.
      absent: one of the three.
      over: "image" sums over each image; "batch" over all of them, and every image gets the same value.
      smooth: >= 0, in pixels.

    Returns: [B] float32 in [0, 1].

    Raises: ValueError for an unknown word, shapes that do not fit, or no class left.

    Known values: probability = a one-hot target gives 0; K = 2, each class on half the pixels, probability 1/2 everywhere: 1/2.
    """
    if absent not in ("ignore", "zero", "smooth") or over not in ("image", "batch"):
        raise ValueError(f"absent: found {absent!r}, allowed 'ignore', 'zero', 'smooth'; over: found {over!r}, allowed 'image', 'batch'")
    p, g = _checked(probability, target)
    if not background:
        p, g = p[..., 1:], g[..., 1:]
    if p.shape[-1] == 0:
        raise ValueError("no class is left without the background")
    axes = (1, 2) if over == "image" else (0, 1, 2)
    overlap, predicted, true = (jnp.sum(x, axis=axes, keepdims=True) for x in (p * g, p, g))
    size = predicted + true + smooth
    some = size > _TINY
    dice = jnp.where(some, (2 * overlap + smooth) / jnp.where(some, size, 1.0), 1.0)
    present = true > 0
    if absent == "zero":
        dice = jnp.where(present, dice, 0.0)
    counted = present if absent == "ignore" else jnp.ones_like(present)
    classes = counted.sum(axis=-1)
    loss = jnp.where(counted, 1 - dice, 0.0).sum(axis=-1) / jnp.maximum(classes, 1)
    return jnp.broadcast_to(loss.reshape(-1), (p.shape[0],))


def cross_entropy(logits, target, *, class_weight=None) -> jax.Array:
    """Cross-entropy, the mean over an image's pixels.

        loss = mean over pixels of  -sum_k weight_k g_k log softmax(logits)_k

    Args:
      logits: [B, H, W, K].
      target: [B, H, W, K], one-hot or soft.
      class_weight: [K], or None for ones; the mean stays over pixels, it is not divided by the weights.

    Returns: [B] float32, in nats.

    Raises: ValueError for shapes that do not fit.

    Known values: equal logits give log K.
    """
    logits, target = _checked(logits, target)
    if class_weight is not None:
        class_weight = jnp.asarray(class_weight, jnp.float32)
        if class_weight.shape != target.shape[-1:]:
            raise ValueError(f"class_weight: [{target.shape[-1]}] expected, found {class_weight.shape}")
        target = target * class_weight
    # log_softmax may reach -inf for logits of opposite, enormous size; where the target is 0 that must not become NaN.
    terms = jnp.where(target > 0, target * jax.nn.log_softmax(logits), 0.0)
    return -terms.sum(axis=-1).mean(axis=(1, 2))


def _checked(prediction, target) -> tuple[jax.Array, jax.Array]:
    prediction, target = (jnp.asarray(x).astype(jnp.float32) for x in (prediction, target))
    if prediction.ndim != 4 or prediction.shape != target.shape:
        raise ValueError(f"two arrays [B, H, W, K] expected: found {prediction.shape} and {target.shape}")
    return prediction, target
