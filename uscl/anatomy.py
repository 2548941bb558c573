"""Which frames show the same anatomy: the pair rule of anatomy-aware contrastive learning (AWCL, Fu et al. 2022), beside `uscl.temporal`.

A label is a whole number from 0 on; a negative one means that nobody knows. Loss and batch as in AWCL, with one label for each of N frames:

    weights = anatomy_weights(label)                                                  # or union(temporal_weights(..), anatomy_weights(..))
    positive, negative = pair_weights(weights, cine, negatives="all", views=2)        # "all" does not read which cine a frame is from
    loss = info_nce(z, positive, negative, temperature=0.5, denominator="all")

so each anchor is attracted by its other view and by both views of every frame of its anatomy, and repelled by all that does not attract it.
The released code scales this loss, and so its gradient, by temperature / 0.07, which is 7.14 at its 0.5; multiply by it for parity. Adam's
step hardly notices, save for the weight decay that the code adds to the gradient.
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from uscl.resemblance import integers

UNKNOWN = -1


def anatomy_weights(label) -> jax.Array:
    """Resemblance of every two frames by what they show.

        w_ij = 1[i = j or (y_i = y_j and y_i >= 0)]

    A frame without a label resembles itself alone, whatever else is in the batch: its loss is that of SimCLR. (In AWCL's released code the
    batch's first frame decides for all, and frames without a label are then positives of each other.)

    Args:
      label: [N] integers, one for each frame; any negative one is unknown.

    Returns: [N, N] float32, 0 or 1; symmetric; the diagonal is 1.

    Raises: ValueError for another shape, or labels that are not integers.

    Known values: labels 0, 1, 0, -1, -1 give ones on the diagonal and at (0, 2) and (2, 0), else zeros.
    """
    label = integers("label", label)
    if label.ndim != 1:
        raise ValueError(f"label [N] expected: found {label.shape}")
    alike = (label[:, None] == label[None, :]) & (label >= 0)[:, None]
    return (alike | jnp.eye(len(label), dtype=bool)).astype(jnp.float32)


def union(*weights) -> jax.Array:
    """Frames that resemble each other by any of the rules: w_ij = max over rules of w_ij, e.g. near in time or of one anatomy.

    Args:
      weights: one or more [N, N] in [0, 1].

    Returns: [N, N] float32 in [0, 1]. Symmetric where each rule is.

    Raises: ValueError without a rule, or for shapes that differ.

    Known values: with identity weights a rule stays as it is; 0.3 of one rule and 0.7 of another is 0.7.
    """
    weights = [jnp.asarray(w, jnp.float32) for w in weights]
    shapes = [w.shape for w in weights]
    if not shapes or any(shape != 2 * shapes[0][:1] for shape in shapes):
        raise ValueError(f"one or more weights [N, N] of one N expected: found {shapes}")
    return reduce(jnp.maximum, weights)


def keep_labels(key, label, *, ratio) -> jax.Array:
    """AWCL's anatomy ratio: each label is kept with probability `ratio`, each on its own, else it becomes unknown.

    The released code throws a coin whenever it draws a frame, so inside a step this takes the step's key, and a frame that has lost its
    label once may have it the next time. A fixed key forgets the same places each time.

    Args:
      key: one key.
      label: integers of any shape.
      ratio: probability in [0, 1]; may be traced. The paper's are 0.1, 0.3, 0.5, 0.8 and 1.

    Returns: int32 (or the wider type of `label`) of label's shape, -1 where unknown.

    Raises: ValueError for a ratio outside [0, 1], or labels that are not integers.

    Known values: 1 keeps all of them, which is SupCon; 0 none, which is SimCLR.
    """
    if isinstance(ratio, int | float | np.number) and not 0 <= ratio <= 1:
        raise ValueError(f"ratio: found {ratio}; it must be within [0, 1]")
    label = integers("label", label)
    kept = jax.random.bernoulli(key, jnp.asarray(ratio, jnp.float32), label.shape)
    return jnp.where(kept, jnp.maximum(label, UNKNOWN), UNKNOWN)


def coarsen(label, groups) -> jax.Array:
    """Fine labels as coarse ones: the plane k belongs to the group groups[k], e.g. both views of the spine to the spine.

    Args:
      label: integers of any shape below K; negative ones stay unknown.
      groups: [K] integers. A negative group makes its planes unknown: the background, say, which is no anatomy, and whose frames
        would else all be positives of each other.

    Returns: integers of label's shape, -1 where unknown.

    Raises: ValueError for a group list that is empty or not [K], for what are not integers, and for a label of K or more; where JAX
    already holds the labels such a one counts as unknown.

    Known values: groups 0, 0, 1, -1 turn labels 0, 1, 2, 3, -1 into 0, 0, 1, -1, -1.
    """
    groups = integers("groups", groups)
    if groups.ndim != 1 or len(groups) == 0:
        raise ValueError(f"groups [K] expected, one for each fine label: found {groups.shape}")
    if not isinstance(label, jax.Array) and np.max(label, initial=0) >= len(groups):
        raise ValueError(f"label: found {np.max(label)}, but groups names {len(groups)}, from 0 to {len(groups) - 1}")
    label = integers("label", label)
    known = (label >= 0) & (label < len(groups))
    return jnp.where(known, jnp.maximum(groups[jnp.where(known, label, 0)], UNKNOWN), UNKNOWN)
