"""What frozen embeddings know about labels: nearest neighbours, and a linear layer that is solved for instead of trained.

Both read rows [n, D] with labels and answer with probabilities for other rows. Take those other rows from other patients: a neighbour from
one's own recording says that the embedding knows the recording.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

_CELLS = 2**21  # similarities held at a time: 16 MiB
_SAME = 1e-12  # similarities nearer than this are equal but for the order of a sum
_STILL = 1e-6  # what varies by less than this share of its size is constant but for float32


def knn_probe(train, labels, *, test, k=20, temperature=0.07, classes=None):
    """Weighted nearest neighbours on the sphere (Wu et al. 2018, "InstDisc"; as used by Caron et al. 2021, "DINO").

        p_c proportional to the sum over the k nearest rows i of class c of exp(u . u_i / temperature),        u = z / |z|

    Nothing is fitted, so it follows a pretraining at no cost beyond the embeddings. Rows exactly as near as the k-th vote too: the order of
    rows then changes nothing.

    Args:
      train: [n, D], finite, n >= 1; a zero vector stays zero. labels: [n] integers in 0 .. K - 1.
      test: [m, D]. k: neighbours, 1 or more; all rows vote where n <= k. temperature: > 0. classes: K; None: as many as labels show.

    Returns: float64 [m, K], rows sum to 1. Its argmax is the vote; with two classes column 1 is a score for `auc`.

    Raises: ValueError for shapes that do not fit, numbers that are not finite, labels outside the range, k or temperature not positive.

    Known values: k = 1 gives the label of the nearest row; train (1, 0), (0, 1) of classes 0, 1 and test (1, 1): (1/2, 1/2);
    test (1, 0), temperature 1: (e, 1) / (e + 1).
    """
    train, labels, test, classes = _checked(train, labels, test, classes)
    if not (k >= 1 and temperature > 0):
        raise ValueError(f"k is {k} and temperature {temperature}; k must be 1 or more, temperature above 0")
    train, test, belongs = _unit(train), _unit(test), np.eye(classes)[labels]
    n, answer = len(train), np.empty((len(test), classes))
    step = max(1, _CELLS // n)
    for start in range(0, len(test), step):
        near = test[start : start + step] @ train.T
        if k < n:
            least = np.partition(near, n - k, axis=1)[:, n - k, None]
            near = np.where(near >= least - _SAME, near, -np.inf)
        # Less the nearest one's, which cancels in the share: exp stays finite at any temperature.
        votes = np.exp((near - near.max(1, keepdims=True)) / temperature) @ belongs
        answer[start : start + step] = votes / votes.sum(1, keepdims=True)
    return answer


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight [D, K] and bias [K], float64, for features as they are. A class without a row has bias -inf."""

    weight: np.ndarray
    bias: np.ndarray

    def probabilities(self, z):
        """Of rows z [m, D]: softmax(z weight + bias), [m, K]."""
        return softmax(np.asarray(z, np.float64) @ self.weight + self.bias, axis=1)


def fit_linear(train, labels, *, penalty=1.0, classes=None):
    """Multinomial logistic regression on standardised features, to its one minimum.

        sum_i -log softmax(x_i W + b)[y_i] + penalty / 2 |W|^2,        x = (z - mean) / std of each feature over train

    Solved by L-BFGS in float64: no learning rate and no epochs that would favour one encoder, which is why probes are compared by it.
    Standardising lets one penalty fit features of any scale; one that varies by less than a millionth of its size is ignored. b is not
    penalised. The scaling is folded into what returns, so the result can stand in for a trained last layer. penalty is scikit-learn's
    1 / C; with two classes there are two columns, w and -w, which is a binary regression with half the penalty on their difference.

    train, labels, classes: as `knn_probe`. penalty: > 0, for without one the weights of separable classes grow for ever.
    Returns `Linear`. Raises ValueError as `knn_probe`, and for a penalty that is not positive.

    Known values: features that say nothing: the shares of the classes in train, for every row. Features moved or rescaled: same answers.
    """
    train, labels, _, classes = _checked(train, labels, None, classes)
    if not 0 < penalty < np.inf:
        raise ValueError(f"penalty is {penalty}; it must be above 0 and finite")
    mean, std = train.mean(0), train.std(0)
    varies = std > _STILL * np.abs(train).max(0)
    scale = np.where(varies, std, 1)
    x = np.where(varies, (train - mean) / scale, 0)
    held, place = np.unique(labels, return_inverse=True)
    target = np.eye(len(held))[place]
    (n, d), split = x.shape, x.shape[1] * len(held)

    def objective(flat):  # both divided by n, so that the tolerance means the same for any number of rows
        w, b = flat[:split].reshape(d, -1), flat[split:]
        log_p = log_softmax(x @ w + b, axis=1)
        error = np.exp(log_p) - target
        slope = np.concatenate([(x.T @ error + penalty * w).ravel(), error.sum(0)])
        return (penalty / 2 * np.square(w).sum() - (log_p * target).sum()) / n, slope / n

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9}
    solved = minimize(objective, np.zeros(split + len(held)), jac=True, method="L-BFGS-B", options=options).x
    weight, bias = np.zeros((d, classes)), np.full(classes, -np.inf)
    weight[:, held] = np.where(varies, 1 / scale, 0)[:, None] * solved[:split].reshape(d, -1)
    bias[held] = solved[split:] - mean @ weight[:, held]
    return Linear(weight, bias)


def linear_probe(train, labels, *, test, penalty=1.0, classes=None):
    """`fit_linear` on train, then the probabilities [m, K] of test [m, D]: the linear counterpart of `knn_probe`, which has the rest."""
    train, labels, test, classes = _checked(train, labels, test, classes)
    return fit_linear(train, labels, penalty=penalty, classes=classes).probabilities(test)


def _checked(train, labels, test, classes):
    train, labels = np.asarray(train, np.float64), np.asarray(labels)
    test = train[:0] if test is None else np.asarray(test, np.float64)
    if train.ndim != 2 or labels.shape != train.shape[:1] or test.ndim != 2 or test.shape[1] != train.shape[1] or not len(train):
        raise ValueError(f"train [n, D], labels [n] and test [m, D], n >= 1, expected: found {train.shape}, {labels.shape}, {test.shape}")
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError("embeddings hold numbers that are not finite")
    if labels.dtype.kind not in "biu":
        raise ValueError(f"labels must be integers: found {labels.dtype}")
    labels = labels.astype(np.int64)
    classes = int(labels.max()) + 1 if classes is None else classes
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0 .. {classes - 1}: found {labels.min()} .. {labels.max()}")
    return train, labels, test, classes


def _unit(z):
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(length > 0, length, 1)
