"""How embeddings lie: does a class keep together, apart from the others, and does the space get used.

Each labelling asks its own question. By class: are tissues told apart. By cine or patient: does the embedding know the recording
rather than the tissue; figures as good by cine as by class say that it does. So take `embedding_geometry` once with each.
"""

import math

import numpy as np
from scipy.spatial.distance import cdist, pdist

_CELLS = 2**21  # distances held at a time: 16 MiB


def embedding_geometry(z, labels, *, per_label=None, seed=0):
    """All measures of this file, for one labelling, with equally many rows of each label (`balanced`): a common one would rule the means.

    All but `rankme`, which wants embeddings as they are, see u_i = z_i / |z_i|: the losses compare directions, and lengths differ between
    models for reasons that mean nothing.

    z: [n, D], finite; a zero vector stays zero. labels: [n], or [n, columns] where a row is one label (class and image). per_label, seed:
    as for `balanced`. Returns {"n", "labels": how many there are, "compactness", "separability_least", "separability_mean", "silhouette",
    "alignment", "uniformity", "rankme"}, nan where there is nothing to measure. Raises ValueError for shapes that do not fit, or numbers
    that are not finite.

    Known values: everything in one place, with two labels: compactness, separability, silhouette, alignment and uniformity 0, rankme 1.
    """
    z, labels = _checked(z, labels)
    chosen = balanced(labels, per_label=per_label, seed=seed)
    z, owner = z[chosen], _owner(labels[chosen])[0]
    u = _unit(z)
    least, mean = separability(u, owner)
    return {
        "n": len(z), "labels": len(np.unique(owner)),
        "compactness": compactness(u, owner), "separability_least": least, "separability_mean": mean,
        "silhouette": silhouette(u, owner), "alignment": alignment(u, owner), "uniformity": uniformity(u), "rankme": rankme(z),
    }  # fmt: skip


def balanced(labels, *, per_label=None, seed=0):
    """Which rows to keep so that every label has equally many, drawn without replacement.

    labels: [n], or [n, columns] where a row is one label. per_label: how many of each, 1 or more (else ValueError); labels that have fewer
    are left out. None: as many as the rarest has, so that all stay. seed: the same seed, the same rows. Returns indices, ascending.

    Known values: labels a a a b b keep 2 and 2; with per_label=3 the three a alone; nothing keeps nothing.
    """
    if per_label is not None and per_label < 1:
        raise ValueError(f"per_label is {per_label}; it must be 1 or more")
    owner, number = _owner(labels)
    wanted = number.min(initial=len(owner)) if per_label is None else per_label
    shuffled = np.random.default_rng(seed).permutation(len(owner))
    grouped = shuffled[np.argsort(owner[shuffled], kind="stable")]
    place = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)  # of a row among those of its label
    return np.sort(grouped[(place < wanted) & (np.repeat(number, number) >= wanted)])


def compactness(z, labels):
    """Intra-class spread; smaller is tighter.

        mean over labels c of mean over i in c of |z_i - mu_c|^2,        mu_c the mean of c

    z [n, D], labels [n]. Returns a float >= 0, in z's unit squared; nan without rows. On unit vectors at most 1.

    Known values: 0 where each label is one point; labels at -1, 1 and at 0, 4 of a line: (1 + 4) / 2.
    """
    z, labels = _checked(z, labels)
    number, _, apart = _groups(z, labels)
    return float((apart / number).mean()) if len(number) else float("nan")


def separability(z, labels):
    """Distance between the means of two labels: (that of the nearest two, the mean over all pairs).

        |mu_c - mu_c'|, c < c'

    z [n, D], labels [n]. Returns two floats >= 0, in z's unit; nan with fewer than two labels. On unit vectors at most 2.

    Known values: means at 0, 3 and 4 of a line: (1, 8 / 3).
    """
    z, labels = _checked(z, labels)
    _, centre, _ = _groups(z, labels)
    apart = pdist(centre) if len(centre) > 1 else np.full(1, np.nan)
    return float(apart.min()), float(apart.mean())


def silhouette(z, labels):
    """Is each row nearer to its own label than to the nearest other one (Rousseeuw 1987).

        s_i = (b_i - a_i) / max(a_i, b_i)        a_i: mean distance to the others of its label; b_i: to the nearest other label, in the mean

    z [n, D], labels [n]. Returns the mean of s_i in [-1, 1], by Euclidean distance; nan with fewer than two labels. A row alone under its
    label has s_i = 0, and so has one with a_i = b_i = 0.

    Known values: two labels, each one point: 1; all alone: 0; 0, 1 against 9, 10 of a line: (17 / 19 + 15 / 17) / 2.
    """
    z, labels = _checked(z, labels)
    owner, number = _owner(labels)
    if len(number) < 2:
        return float("nan")
    belongs = (owner[:, None] == np.arange(len(number))).astype(np.float64)
    total = 0.0
    for rows in _blocks(len(z)):
        mine, row = owner[rows], np.arange(len(owner[rows]))
        sums = cdist(z[rows], z) @ belongs
        others = number[mine] - 1
        a = sums[row, mine] / np.maximum(others, 1)
        means = sums / number
        means[row, mine] = np.inf
        b = means.min(1)
        larger = np.maximum(a, b)
        total += np.where(others > 0, (b - a) / np.where(larger > 0, larger, 1), 0).sum()
    return float(total / len(z))


def alignment(z, labels):
    """How near positives lie, those that share a label (Wang and Isola 2020, alpha = 2); smaller is better.

        mean over pairs i < j of one label of |u_i - u_j|^2,        u = z / |z|

    z [n, D], labels [n]. Returns a float in [0, 4]; nan where no two rows share a label. Every pair counts alike, so balance labels first.

    Known values: equal directions 0; two at right angles 2; opposite ones 4.
    """
    z, labels = _checked(z, labels)
    number, _, apart = _groups(_unit(z), labels)
    pairs = (number * (number - 1) / 2).sum()
    # The squared distances of all pairs of n points sum to n times those from their mean: no pair has to be visited.
    return float((number * apart).sum() / pairs) if pairs else float("nan")


def uniformity(z):
    """How evenly directions fill the sphere (Wang and Isola 2020, t = 2); smaller is better.

        log of the mean over i < j of exp(-2 |u_i - u_j|^2),        u = z / |z|

    z [n, D]. Returns a float in [-8, 0], about -4 for evenly spread directions of large D; nan with fewer than two rows.

    Known values: collapse to a point 0; an antipodal pair -8; two at right angles -4.
    """
    u = _unit(_checked(z)[0])
    if len(u) < 2:
        return float("nan")
    total = 0.0
    for rows in _blocks(len(u)):
        near = np.exp(-2 * cdist(u[rows], u, "sqeuclidean"))
        near[np.arange(len(near)), np.arange(len(u))[rows]] = 0  # a row and itself
        total += near.sum()
    return float(math.log(total / len(u) / (len(u) - 1)))


def rankme(z):
    """Effective rank of the embeddings as they are (RankMe, Garrido et al. 2023; Roy and Vetterli 2007).

        exp(-sum_k p_k log p_k),        p_k = s_k / sum s, s the singular values of z

    Neither centred nor normalised, as in the source: a mean far from 0 is one large singular value and lowers it. Not the
    `effective_rank` that training logs (`embedding.spread`): that is the participation ratio of the variances.
    z [n, D]. Returns a float in [1, min(n, D)]; 0 where all is zero, nan without rows.

    Known values: the rows of an identity, D; all rows alike, 1; singular values 3 and 1: exp(log 4 - 3/4 log 3).
    """
    z = _checked(z)[0]
    if not z.any():
        return 0.0 if z.size else float("nan")
    s = np.linalg.svd(z, compute_uv=False)
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def _checked(z, labels=None):
    z, labels = np.asarray(z, np.float64), None if labels is None else np.asarray(labels)
    if z.ndim != 2 or (labels is not None and (labels.ndim not in (1, 2) or len(labels) != len(z))):
        raise ValueError(f"z [n, D] and labels [n] expected: found {z.shape} and {None if labels is None else labels.shape}")
    if not np.isfinite(z).all():
        raise ValueError("z holds numbers that are not finite")
    return z, labels


def _owner(labels):  # each row's label as a number from 0, and how many rows each label has
    _, owner, number = np.unique(np.asarray(labels), axis=0, return_inverse=True, return_counts=True)
    return owner.reshape(-1), number


def _groups(z, labels):  # of each label: how many rows, their mean, and the sum of squared distances from it
    owner, number = _owner(labels)
    centre = np.zeros((len(number), z.shape[1]))
    np.add.at(centre, owner, z)
    centre /= number[:, None]
    return number, centre, np.bincount(owner, weights=np.square(z - centre[owner]).sum(1), minlength=len(number))


def _unit(z):
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(length > 0, length, 1)


def _blocks(n):
    step = max(1, _CELLS // max(n, 1))
    return [slice(start, start + step) for start in range(0, n, step)]
