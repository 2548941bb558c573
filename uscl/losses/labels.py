"""What few labels add to a contrastive loss: a cross-entropy of images, silent where the label is unknown."""

import jax
import jax.numpy as jnp
import numpy as np

from uscl.resemblance import integers


def label_entropy(logits, label, *, over="known") -> jax.Array:
    """Cross-entropy of whole images of which some have a label (the semi-supervised term of USCL, Chen et al. 2021).

        loss_i = scale 1[y_i >= 0] (log sum_k e^{x_ik} - x_{i, y_i})
        scale = M / number of known labels   (over="known": the mean over all rows is the mean over the labelled ones)
        scale = 1                            (over="all": few labels in a batch weigh little)

    USCL adds 0.2 times the mean over the labelled of either sample, so for both samples as one batch the weight of this loss is 0.4
    under "known". Where no label is known the released code divides by 0; here the loss is 0.

    Args:
      logits: [M, K], of a layer on the projection.
      label: [M] integers below K; any negative one is unknown.
      over: "known" or "all".

    Returns: [M] float32, in nats; 0, with gradient exactly 0, where the label is unknown, whatever the logits are.

    Raises: ValueError for an unknown word, shapes that do not fit, labels that are not integers, or a label of K or more; where JAX
    already holds the labels such a one counts as unknown.

    Known values: equal logits and a known label in half of the rows: 2 log K in these under "known", log K under "all".
    """
    if over not in ("known", "all"):
        raise ValueError(f"over: found {over!r}; allowed are 'known' and 'all'")
    logits = jnp.asarray(logits).astype(jnp.float32)
    if logits.ndim != 2 or logits.shape[1] < 1 or np.shape(label) != logits.shape[:1]:
        raise ValueError(f"logits [M, K] and label [M] expected: found {logits.shape} and {np.shape(label)}")
    classes = logits.shape[1]
    if not isinstance(label, jax.Array) and np.max(label, initial=0) >= classes:
        raise ValueError(f"label: found {np.max(label)}, but there are {classes} logits, from 0 to {classes - 1}")
    label = integers("label", label)
    known = (label >= 0) & (label < classes)
    # Unknown rows leave before the logarithm, so that an overflow there reaches no gradient.
    logits = jnp.where(known[:, None], logits, 0.0)
    right = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(known, label, 0)[:, None], axis=1)[:, 0]
    scale = len(logits) / jnp.maximum(known.sum(), 1) if over == "known" else 1.0
    return jnp.where(known, -scale * right, 0.0)
