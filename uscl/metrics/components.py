"""Which classes are one piece: keep the largest component only where it helped on images the networks had not learnt from."""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from uscl.metrics.overlap import class_mask, dice
from uscl.types import UserError


def largest_component(mask) -> np.ndarray:
    """The largest connected part of a mask; pixels that touch at a corner are connected, and parts of equal size all stay.

    mask: [H, W], anything but 0 is inside. Returns bool [H, W]. Source: Isensee et al. 2021, version 2.8.1 of the code.

    Known values: an empty mask stays empty; two pixels diagonal to each other are one part; two far apart both stay.
    """
    parts, count = ndimage.label(np.asarray(mask).astype(bool), np.ones((3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return (parts > 0) & (sizes == sizes.max())[parts]


def decide(predictions: Sequence, truths: Sequence, *, values: int | None = None, classes: Mapping[str, Any] | None = None) -> dict:
    """Rules for `apply`, found on cross-validation's predictions (Isensee et al. 2021, version 2.8.1 of the code).

    First all foreground together: its largest component is kept if that raises the mean over classes of the mean Dice and lowers
    no class. Then, with two classes or more, one class after another in their order, each on what the rules before it left:
    kept if the class's own mean Dice rises. Removed pixels become 0. "Rises" means by anything at all.

    The mean Dice of a class is over the images where truth or prediction has it. So a ghost that is removed entirely from an image
    without the class (Dice 0) leaves the mean: that counts as a rise, as in the original. A class that no image has keeps the mean
    over classes undefined, and the first rule out.

    Args:
      predictions, truths: label maps [n, H, W], or as many [H, W] of their own sizes; 0 is background.
      values: classes are the single values 1 ... values - 1; or
      classes: name -> the value or values whose union the class is (regions may overlap). The foreground is the union of all.

    Returns: {"keep_largest": [[values], ...] in the order to apply them, "tried": [{"of", "values", "before", "after", "adopted"}]},
      for JSON; Dice that is undefined is None.

    Raises: ValueError for numbers of images that differ, none at all, no class, or both or none of values and classes.

    Known values: equal predictions and truths give no rule.
    """
    if (values is None) == (classes is None):
        raise ValueError("one of values and classes is expected")
    named = {str(v): [v] for v in range(1, values)} if classes is None else {k: _ints(v) for k, v in classes.items()}
    if not named or not len(predictions) or len(predictions) != len(truths):
        raise ValueError(f"found {len(predictions)} predictions, {len(truths)} truths, {len(named)} classes")
    current = [np.asarray(p) for p in predictions]
    tried = []

    def consider(name, its_values, scored):
        nonlocal current
        candidate = [_keep_largest(p, its_values) for p in current]
        before, after = ([_mean_dice(maps, truths, named[c]) for c in scored] for maps in (current, candidate))
        adopted = bool(np.mean(after) > np.mean(before)) and not any(a < b for a, b in zip(after, before, strict=True))
        found = {"before": _plain(np.mean(before)), "after": _plain(np.mean(after)), "adopted": adopted}
        tried.append({"of": name, "values": its_values, **found})
        if adopted:
            current = candidate

    consider("foreground", sorted(set().union(*named.values())), tuple(named))
    if len(named) > 1:
        for name, its_values in named.items():
            consider(name, its_values, (name,))
    return {"keep_largest": [step["values"] for step in tried if step["adopted"]], "tried": tried}


def apply(prediction, rules: Mapping) -> np.ndarray:
    """The label map [H, W] with `rules` carried out in their order: of each union of values the largest component stays, the rest is 0.

    Raises: UserError where rules, which a person may have edited, are not what `decide` writes.

    Known values: no rules, no change.
    """
    try:
        unions = [_ints(values) for values in rules["keep_largest"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"rules of post-processing: keep_largest must be a list of lists of label values; found {rules!r:.200}") from error
    prediction = np.array(prediction)
    for values in unions:
        prediction = _keep_largest(prediction, values)
    return prediction


def _keep_largest(prediction, values):
    mask = class_mask(prediction, values)
    return np.where(mask & ~largest_component(mask), prediction.dtype.type(0), prediction)


def _mean_dice(predictions, truths, values):
    scores = [dice(class_mask(p, values), class_mask(t, values), empty="skip") for p, t in zip(predictions, truths, strict=True)]
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else float("nan")


def _ints(values):
    return [int(v) for v in np.atleast_1d(np.asarray(values, np.int64))]


def _plain(score):
    return None if np.isnan(score) else float(score)
