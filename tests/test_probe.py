"""Probes: by hand, against loops, scikit-learn 1.9.1 on the same rows, and what must not change the answer."""

import math

import numpy as np
import pytest

from uscl.metrics.probe import fit_linear, knn_probe, linear_probe

I = np.arange(40)
LABELS = I % 3
TRAIN = np.stack([np.sin(1.3 * I + d * d) * (1 + d) + 0.3 * d for d in range(4)], 1)
TRAIN += np.stack([0 * I, 0.8 * LABELS, -0.5 * (LABELS == 2), 0 * I], 1)
TEST = np.stack([np.cos(2.1 * np.arange(5) + d) * (1 + d) for d in range(4)], 1)

# KNeighborsClassifier(n_neighbors=k, metric="cosine", weights=lambda d: exp((1 - d) / 0.07)).predict_proba
NEIGHBOURS = {
    7: [[0.472028914, 0.271423529, 0.256547557], [0.895596677, 0.104403323, 0.0], [0.062715644, 0.34378722, 0.593497137],
        [0.481150158, 0.267086888, 0.251762954], [0.890414859, 0.109585141, 0.0]],
    20: [[0.440454645, 0.302250253, 0.257295102], [0.797156913, 0.137747321, 0.065095766], [0.11887366, 0.344615517, 0.536510822],
         [0.449278673, 0.298917759, 0.251803569], [0.794658014, 0.141091836, 0.064250149]],
}  # fmt: skip
# LogisticRegression(C=1 / penalty, tol=1e-12) on StandardScaler().fit_transform
REGRESSION = {
    1: [[0.6369968, 0.237590005, 0.125413194], [0.997232918, 0.002652603, 0.000114479], [0.043647507, 0.337805537, 0.618546957],
        [0.657473822, 0.226985022, 0.115541156], [0.997147018, 0.002733537, 0.000119445]],
    10: [[0.407785085, 0.311335358, 0.280879557], [0.655563168, 0.224230161, 0.120206672], [0.290960791, 0.359928191, 0.349111018],
         [0.41145638, 0.310248529, 0.278295091], [0.654419137, 0.224915432, 0.120665431]],
}  # fmt: skip
TWO = [0.326488267, 0.000349906, 0.972577855, 0.302414874, 0.000365161]  # C=2, labels > 0: a binary regression halves the penalty


@pytest.mark.parametrize("k", NEIGHBOURS)
def test_neighbours_agree_with_scikit_learn(k):
    assert knn_probe(TRAIN, LABELS, test=TEST, k=k) == pytest.approx(np.array(NEIGHBOURS[k]), abs=2e-9)
    if k == 20:
        assert (knn_probe(TRAIN, LABELS, test=TEST) == knn_probe(TRAIN, LABELS, test=TEST, k=20, temperature=0.07)).all()


def test_neighbours_known_values():
    corner = np.eye(2)
    assert knn_probe(corner, [0, 1], test=[[3.0, 3.0]]).tolist() == [[0.5, 0.5]]
    assert knn_probe(corner, [0, 1], test=[[9, 0]], temperature=1.0) == pytest.approx(np.array([[math.e, 1]]) / (math.e + 1))
    assert knn_probe(corner, [0, 1], test=[[2, 1], [0.1, 5]], k=1).tolist() == [[1, 0], [0, 1]]
    assert knn_probe(corner, [0, 1], test=[[1, 0]], temperature=1e-6).tolist() == [[1, 0]], "no overflow"
    assert knn_probe(corner, [0, 1], test=[[-1, 0]], temperature=1e-6).tolist() == [[0, 1]], "nor nothing to share"
    assert knn_probe(corner, [0, 1], test=[[1, 0]], k=1, classes=4).tolist() == [[1, 0, 0, 0]]
    assert knn_probe(corner, [0, 1], test=[[0, 0]]).tolist() == [[0.5, 0.5]], "a zero vector is as far from all"
    assert knn_probe(corner, [0, 1], test=np.zeros((0, 2))).shape == (0, 2)


def test_neighbours_against_loops_and_in_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    train, labels, test = rng.normal(size=(50, 6)), rng.integers(0, 4, 50), rng.normal(size=(30, 6))
    expected = []
    for row in test:
        near = sorted(((sum(a * b for a, b in zip(row, z, strict=True)) / math.hypot(*row) / math.hypot(*z), c)
                       for z, c in zip(train, labels, strict=True)), reverse=True)[:9]  # fmt: skip
        votes = [sum(math.exp(s / 0.2) for s, c in near if c == k) for k in range(4)]
        expected.append([v / sum(votes) for v in votes])
    found = knn_probe(train, labels, test=test, k=9, temperature=0.2)
    assert found == pytest.approx(np.array(expected), abs=1e-12) and found.sum(1) == pytest.approx(np.ones(30))
    monkeypatch.setattr("uscl.metrics.probe._CELLS", 50 * 7)
    assert knn_probe(train, labels, test=test, k=9, temperature=0.2) == pytest.approx(found, abs=1e-12)


def test_neighbours_do_not_mind_the_order_of_rows():
    """The second nearest exists three times: whichever came first would vote, so all do."""
    train = np.array([[1, 0.0], [1, 1], [2, 2], [3, 3], [0, 1]])
    labels = np.array([0, 1, 2, 2, 1])
    for order in ([0, 1, 2, 3, 4], [3, 4, 2, 0, 1], [2, 3, 1, 4, 0]):
        found = knn_probe(train[order], labels[order], test=[[1, 0.1]], k=2, temperature=1.0)[0]
        assert found[2] == pytest.approx(2 * found[1]) and found[0] > found[1] > 0


@pytest.mark.parametrize("penalty", REGRESSION)
def test_regression_agrees_with_scikit_learn(penalty):
    assert linear_probe(TRAIN, LABELS, test=TEST, penalty=penalty) == pytest.approx(np.array(REGRESSION[penalty]), abs=2e-7)


def test_two_classes_are_a_binary_regression():
    found = linear_probe(TRAIN, LABELS > 0, test=TEST)
    assert found[:, 1] == pytest.approx(TWO, abs=2e-7)
    layer = fit_linear(TRAIN, LABELS > 0)
    assert layer.weight[:, 0] == pytest.approx(-layer.weight[:, 1], abs=1e-9)


def test_regression_is_at_its_minimum():
    """The slope of the sum by central differences, written down again: 0 in every direction."""
    rng = np.random.default_rng(2)
    z, y = rng.normal(3, 5, (60, 3)), rng.integers(0, 3, 60)
    layer = fit_linear(z, y, penalty=0.7)
    mean, std = z.mean(0), z.std(0)
    w, b = layer.weight * std[:, None], layer.bias + mean @ layer.weight

    def total(w, b):
        logits = (z - mean) / std @ w + b
        return sum(math.log(sum(math.exp(v - row[k]) for v in row)) for row, k in zip(logits, y, strict=True)) + 0.35 * (w**2).sum()

    for place in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[place] = 1e-5
        assert abs(total(w + step, b) - total(w - step, b)) / 2e-5 < 1e-5
        assert abs(total(w, b + step[0]) - total(w, b - step[0])) / 2e-5 < 1e-5


def test_features_moved_and_rescaled_give_the_same_answers():
    moved = np.array([1e3, -50, 0, 7]), np.array([0.1, 10, 1e5, 1])
    found = linear_probe(TRAIN * moved[1] + moved[0], LABELS, test=TEST * moved[1] + moved[0])
    assert found == pytest.approx(linear_probe(TRAIN, LABELS, test=TEST), abs=1e-6)
    twice = fit_linear(np.tile(TRAIN, (2, 1)), np.tile(LABELS, 2), penalty=2.0)
    assert twice.weight == pytest.approx(fit_linear(TRAIN, LABELS).weight, abs=1e-6), "the penalty is weighed against the sum over rows"


def test_a_feature_that_says_nothing_is_ignored():
    still = 0.1 * np.ones((40, 1)) + 1e-9 * np.sin(I)[:, None]  # what float32 leaves of a constant
    wide, layer = np.hstack([TRAIN, still]), fit_linear(np.hstack([TRAIN, still]), LABELS)
    assert (layer.weight[4] == 0).all() and np.isfinite(layer.bias).all()
    assert layer.probabilities(wide[:5]) == pytest.approx(linear_probe(TRAIN, LABELS, test=TRAIN[:5]), abs=1e-7)
    shares = linear_probe(still, LABELS, test=[[0.1], [5.0]])
    assert shares == pytest.approx(np.array([[14, 13, 13]] * 2) / 40, abs=1e-7), "nothing known: the shares of the classes"


def test_a_class_without_a_row_has_probability_zero():
    found = linear_probe(TRAIN, 2 * (LABELS > 0), test=TEST, classes=4)
    assert (found[:, [1, 3]] == 0).all() and found[:, 2] == pytest.approx(TWO, abs=2e-7)
    assert linear_probe(TRAIN, np.full(40, 1), test=TEST).tolist() == [[0, 1]] * 5
    assert (knn_probe(TRAIN, 2 * (LABELS > 0), test=TEST, classes=4)[:, [1, 3]] == 0).all()


@pytest.mark.parametrize("change,words", [
    ({"labels": [0, 1, 3]}, r"0 \.\. 2"),
    ({"labels": [0, -1, 1]}, r"0 \.\. 2"),
    ({"labels": [0.0, 1.0, 2.0]}, "integers"),
    ({"labels": [0, 1]}, "expected"),
    ({"train": np.ones(3)}, "expected"),
    ({"test": np.ones((2, 3))}, "expected"),
    ({"train": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "expected"),
    ({"train": [[1, 2], [3, np.nan], [0, 1]]}, "finite"),
    ({"test": [[np.inf, 0]]}, "finite"),
])  # fmt: skip
def test_refusals(change, words):
    given = {"train": np.eye(3)[:, :2], "labels": [0, 1, 2], "test": np.ones((1, 2))} | change
    for probe in (knn_probe, linear_probe):
        with pytest.raises(ValueError, match=words):
            probe(given["train"], given["labels"], test=given["test"], classes=3)


def test_refused_settings():
    for probe, setting in ((knn_probe, {"k": 0}), (knn_probe, {"temperature": 0}), (linear_probe, {"penalty": 0})):
        with pytest.raises(ValueError, match=next(iter(setting))):
            probe(TRAIN, LABELS, test=TEST, **setting)
