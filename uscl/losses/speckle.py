"""The speckle loss: a predicted region should hold speckle of the same statistics as the true one."""
import jax
import jax.numpy as jnp

from uscl import nakagami
from uscl.losses.speckle_map import local_logs, window_sides

FORMS = ("parameters", "log_parameters", "map")

_NOTHING = 1e-12  # a mass below this is none


def speckle_loss(
    image, prediction, target, *, form="parameters", envelope=False, dynamic_range=60.0, min_pixels=25.0, eps=1e-6,
    window=9, window_mm=0.0, mm=None,
) -> jax.Array:  # fmt: skip
    """Distance between the Nakagami parameters of predicted and true regions, summed over classes (after eq. 3-5 of the speckle paper).

        loss = sum over classes present in target of  sqrt( (m_p - m_t)^2 + (omega_p - omega_t)^2 )      form="parameters"
                                                      the same of ln m and ln omega                      form="log_parameters"
                                                      the same of the means of local ln m and ln omega   form="map"
        p = image^2,  omega = sum(w p) / sum(w),  m = 1 / (sum(w (p - omega)^2) / sum(w) / omega^2 + eps)
        w = the class's channel of prediction or of target

    The paper's eq. 5 as printed is no distance: its differences are not squared, so they cancel and the root's argument can be
    negative. Its text says Euclidean, which is what stands here. Its regions are hard, and a hard region has no gradient: these are
    weighted by the network's probabilities. Gray in [0, 1] takes the place of a normalisation the paper does not define; on 0..255
    omega would drown m. "log_parameters" compares ratios, in which gain and units drop out. "map" takes the moments in a sliding window
    first (`uscl.losses.speckle_map`) and averages their logarithms over the region with the same w: a region that spans two tissues
    has a low m as a whole, but not in the windows inside either of them. Only windows across the edge mix what the edge parts.

    The moments do not change when w is scaled: *the loss puts no pressure on area*. It must stand beside Dice or cross-entropy.

    Args:
      image: [B, H, W] gray in [0, 1], floating.
      prediction: [B, H, W, K] probabilities of the classes that shall count (leave the background out).
      target: [B, H, W, K], one-hot or soft.
      form: "parameters", "log_parameters" or "map".
      envelope: True undoes a log compression of `dynamic_range` dB first (`uscl.nakagami.decompress`) and leaves black pixels out: their
        envelope is only known to be small. False keeps gray, on which m is a texture descriptor and not the tissue's.
      dynamic_range: dB.
      min_pixels: a class whose target holds less than this is skipped as too small to measure. Where only the prediction does, the
        term counts without a gradient, so that a handful of pixels cannot steer. A side that is empty, or black throughout, has no
        parameters, and its class is skipped.
      eps: added to 1 / m so that a constant region gets 1 / eps; it lowers m = 20 by 2e-5 of itself. A map's m ends at 100 instead.
      window: map; side of the window [pixels], at least 3. A side is best three pulse lengths or more (2 cycles at 3.5 MHz: 2.6 mm).
      window_mm: map; the same [mm]; an image whose mm is nan takes `window`. 0: all do.
      mm: [B], mm a pixel of each image; needed by window_mm.

    Returns: [B] float32; 0 where no class is present. Exactly 0 with gradient exactly 0 at prediction = target: the root is taken of
    a distance above 0 only, rather than of distance + eps, which would bend every small distance.

    Raises: ValueError for an unknown form, an image of integers, shapes that do not fit, or a window_mm without mm.

    Known values: prediction = target gives 0, and so does a prediction that is the target times any factor (see above). On a region
    with p in {1, 3}/4 the target has (m, omega) = (4, 1/2); a prediction over p in {0, 2}/4 has (1, 1/4): sqrt(9 + 1/16).
    As two chequerboards of those, window 4, and regions 2 pixels or more from their edges, the map gives sqrt(5) ln 2.
    """
    if form not in FORMS:
        raise ValueError(f"form: found {form!r}; allowed are {FORMS}")
    image, prediction, target = (jnp.asarray(x) for x in (image, prediction, target))
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"image: gray in [0, 1] of a floating type expected, found {image.dtype}")
    if prediction.ndim != 4 or prediction.shape != target.shape or image.shape != prediction.shape[:3]:
        raise ValueError(f"[B, H, W], [B, H, W, K] and the same expected: found {image.shape}, {prediction.shape} and {target.shape}")
    # Both sides go through one computation: at agreement they come out equal to the last bit.
    weight = jnp.stack([prediction, target]).astype(jnp.float32)
    image = image.astype(jnp.float32)[..., None]
    seen = image > 0 if envelope else jnp.ones_like(image, bool)
    if envelope:
        weight = jnp.where(seen, weight, 0.0)
        image = nakagami.decompress(image, dynamic_range=dynamic_range)
    if form == "map":
        logs, known = local_logs(image[..., 0], seen[..., 0], window_sides(window, window_mm, mm))
        weight = jnp.where(known[..., None], weight, 0.0)
    mass = weight.sum(axis=(2, 3))
    enough = mass[0] >= min_pixels
    if form == "map":
        measured = (mass > _NOTHING).all(axis=0)
        share = weight / jnp.where(mass > _NOTHING, mass, 1.0)[:, :, None, None]
        predicted = jnp.where(enough[:, None, None], share[0], jax.lax.stop_gradient(share[0]))
        gap = ((predicted - share[1])[..., None] * logs[..., None, :]).sum(axis=(1, 2))  # [B, K, (ln m, ln omega)]
    else:
        parameters = jnp.stack(nakagami.fit(image, weight, axis=(2, 3), eps=eps), axis=-1)  # [2, B, K, (m, omega)]
        measured = (parameters[..., 0] > 0).all(axis=0)  # m is 0 where `fit` had nothing to measure
        if form == "log_parameters":
            parameters = jnp.log(jnp.where(measured[..., None], parameters, 1.0))
        predicted, true = parameters
        gap = jnp.where(enough[..., None], predicted, jax.lax.stop_gradient(predicted)) - true
    squared = jnp.square(gap).sum(axis=-1)
    counted = measured & (mass[1] >= min_pixels) & (squared > 0)
    return jnp.where(counted, jnp.sqrt(jnp.where(counted, squared, 1.0)), 0.0).sum(axis=-1)
