"""Geometry of embeddings: by hand, against loops over single pairs, scikit-learn's silhouette, and the fixed points of the definitions."""

import math

import numpy as np
import pytest

from uscl.metrics import alignment, balanced, compactness, embedding_geometry, rankme, separability, silhouette, uniformity


def curve():
    """[30, 4] from sines, and three labels of which one more is alone."""
    i = np.arange(30)
    z = np.stack([np.sin(i * 1.7) + i % 3, np.cos(i * i * 0.3) - (i % 3 == 1), np.sin(i * i * 0.9) * 0.5, (i % 5) / 4.0], 1)
    labels = i % 3
    labels[29] = 7
    return z, labels


def line(*places):
    return np.array(places, float)[:, None]


def length(v):
    return math.sqrt(sum(x * x for x in v))


def by_loops(z, labels):
    """Everything but the singular values, one pair at a time, on lists."""
    z, labels = [list(map(float, row)) for row in z], list(labels)
    names, n = sorted(set(labels)), len(z)
    apart = [[length([a - b for a, b in zip(p, q, strict=True)]) for q in z] for p in z]
    members = {c: [i for i in range(n) if labels[i] == c] for c in names}
    centre = {c: [sum(z[i][d] for i in m) / len(m) for d in range(len(z[0]))] for c, m in members.items()}
    spread = [sum(length([a - b for a, b in zip(z[i], centre[c], strict=True)]) ** 2 for i in m) / len(m) for c, m in members.items()]
    means = [length([a - b for a, b in zip(centre[c], centre[d], strict=True)]) for c in names for d in names if c < d]
    scores = []
    for i in range(n):
        own = [j for j in members[labels[i]] if j != i]
        a = sum(apart[i][j] for j in own) / len(own) if own else 0
        b = min(sum(apart[i][j] for j in members[c]) / len(members[c]) for c in names if c != labels[i])
        scores.append((b - a) / max(a, b) if own and max(a, b) else 0)
    unit = [[x / length(row) for x in row] for row in z]
    squares = {(i, j): sum((a - b) ** 2 for a, b in zip(unit[i], unit[j], strict=True)) for i in range(n) for j in range(i + 1, n)}
    positives = [d for (i, j), d in squares.items() if labels[i] == labels[j]]
    return {
        "compactness": sum(spread) / len(spread), "separability": (min(means), sum(means) / len(means)), "silhouette": sum(scores) / n,
        "alignment": sum(positives) / len(positives),
        "uniformity": math.log(sum(math.exp(-2 * d) for d in squares.values()) / len(squares)),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(seed, monkeypatch):
    monkeypatch.setattr("uscl.metrics.geometry._CELLS", 100)  # blocks of a few rows
    rng = np.random.default_rng(seed)
    n, d = (37, 5) if seed else (12, 2)
    labels = rng.integers(0, 4, n)
    labels[0] = 9
    z = rng.normal(size=(n, d)) * rng.uniform(0.1, 3, (n, 1)) + labels[:, None] % 3
    expected = by_loops(z, labels.tolist())
    for measure in (compactness, separability, silhouette, alignment):
        assert measure(z, labels) == pytest.approx(expected[measure.__name__], rel=1e-10)
        assert measure(z, [f"name {c}" for c in labels]) == pytest.approx(expected[measure.__name__], rel=1e-10)
    assert uniformity(z) == pytest.approx(expected["uniformity"], rel=1e-10)


def test_scikit_learn_says_the_same():
    """silhouette_score of scikit-learn 1.9.1, which also gives a label's only row 0."""
    z, labels = curve()
    assert silhouette(z, labels) == pytest.approx(-0.03469538784539654, rel=1e-10)
    assert silhouette(z, np.arange(30) % 5) == pytest.approx(-0.1072416179245653, rel=1e-10)


def test_compactness_and_separability_known_values():
    assert compactness(line(-1, 1, 0, 4), [0, 0, 1, 1]) == pytest.approx((1 + 4) / 2)
    assert compactness(line(-1, 1, 0, 4, 5), [0, 0, 1, 1, 2]) == pytest.approx(5 / 3), "each label counts alike"
    assert compactness(line(2, 2, 5), list("aab")) == 0
    assert separability(line(-1, 1, 3, 3, 3, 4), list("aabbbc")) == pytest.approx((1, 8 / 3))
    assert np.isnan(separability(line(1, 2), [0, 0])).all()


def test_silhouette_known_values():
    assert silhouette(line(0, 0, 5, 5), [0, 0, 1, 1]) == 1
    assert silhouette(line(0, 1, 7), [0, 1, 2]) == 0
    assert silhouette(line(0, 1, 9, 10), [0, 0, 1, 1]) == pytest.approx((17 / 19 + 15 / 17) / 2)
    assert silhouette(line(0, 5, 0, 5), [0, 0, 1, 1]) == pytest.approx((2.5 - 5) / 5)
    assert silhouette(line(3, 3, 3, 3), [0, 0, 1, 1]) == 0
    assert silhouette(line(0, 1, 9), [0, 0, 1]) == pytest.approx((8 / 9 + 7 / 8 + 0) / 3), "who is alone counts as 0, and counts"
    assert math.isnan(silhouette(line(0, 1), [0, 0]))


def test_alignment_and_uniformity_known_values():
    right, opposite = [[1.0, 0], [0, 5]], [[1.0, 0], [-3, 0]]
    same = [[1.0, 1], [2, 2]]
    assert (alignment(same, [0, 0]), uniformity(same)) == pytest.approx((0, 0), abs=1e-12)
    assert alignment(right, [0, 0]) == pytest.approx(2) and uniformity(right) == pytest.approx(-4)
    assert alignment(opposite, [0, 0]) == pytest.approx(4) and uniformity(opposite) == pytest.approx(-8)
    assert math.isnan(alignment(right, [0, 1])) and math.isnan(uniformity(right[:1]))
    assert uniformity(np.ones((5, 3))) == pytest.approx(0, abs=1e-12)


def test_uniformity_of_the_sphere():
    """Directions drawn evenly in three dimensions: the mean of exp(-4 + 4 c), c evenly in [-1, 1], is (1 - e^-8) / 8."""
    z = np.random.default_rng(0).normal(size=(1500, 3))
    assert uniformity(z) == pytest.approx(math.log((1 - math.exp(-8)) / 8), abs=0.01)


def test_rankme_known_values():
    assert rankme(np.eye(6)) == pytest.approx(6) and rankme(7 * np.eye(6)[:, :4]) == pytest.approx(4)
    assert rankme(np.tile([1.0, 2, 3], (5, 1))) == pytest.approx(1) and rankme(np.zeros((3, 2))) == 0
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert rankme(turn @ np.diag([3.0, 1]) @ turn) == pytest.approx(math.exp(math.log(4) - 0.75 * math.log(3)))
    assert rankme(np.eye(4) + 100) < 1.5, "not centred"
    assert math.isnan(rankme(np.zeros((0, 3))))


def test_balanced():
    labels = np.array(list("abacabaaca"))
    rows = balanced(labels)
    assert (np.diff(rows) > 0).all() and {c: (labels[rows] == c).sum() for c in "abc"} == {"a": 2, "b": 2, "c": 2}
    assert (labels[balanced(labels, per_label=4)] == list("aaaa")).all() and len(balanced(labels, per_label=7)) == 0
    assert (balanced(labels, seed=3) == balanced(labels, seed=3)).all()
    drawn = np.bincount(np.concatenate([balanced(labels, per_label=3, seed=s) for s in range(400)]), minlength=10)
    assert (drawn[labels != "a"] == 0).all() and (np.abs(drawn[labels == "a"] / 400 - 0.5) < 0.1).all(), "all a are as likely"
    assert balanced([]).tolist() == []
    pairs = np.array([[0, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    assert len(balanced(pairs)) == 3 and 0 in balanced(pairs), "a row of two columns is one label"
    with pytest.raises(ValueError, match="1 or more"):
        balanced(labels, per_label=0)


def test_all_of_a_balanced_draw():
    z, labels = curve()
    found = embedding_geometry(z * np.linspace(1, 50, 30)[:, None], labels, per_label=9, seed=4)
    rows = balanced(labels, per_label=9, seed=4)
    unit = z[rows] / np.linalg.norm(z[rows], axis=1)[:, None]
    expected = by_loops(unit, labels[rows].tolist())
    least, mean = expected.pop("separability")
    scaled = np.linalg.svd((z * np.linspace(1, 50, 30)[:, None])[rows])[1]
    share = scaled / scaled.sum()
    expected |= {"separability_least": least, "separability_mean": mean, "n": 27, "labels": 3, "rankme": np.prod(share**-share)}
    assert found == pytest.approx(expected, rel=1e-9)


def test_it_tells_tissue_from_patient():
    """Embeddings made of the patient: tight and apart by patient, nothing by class; and the other way round."""
    rng = np.random.default_rng(2)
    tissue, patient = np.divmod(np.arange(160), 8)[0] % 4, np.arange(160) % 8
    places = rng.normal(size=(8, 16))
    for knows, other in ((tissue, patient), (patient, tissue)):
        z = places[knows] + 0.1 * rng.normal(size=(160, 16))
        told, not_told = embedding_geometry(z, knows), embedding_geometry(z, other)
        assert told["silhouette"] > 0.7 and not_told["silhouette"] < 0.1
        assert told["compactness"] < 0.1 * not_told["compactness"] and told["alignment"] < 0.1 * not_told["alignment"]
        assert told["separability_least"] > 5 * not_told["separability_mean"]


def test_collapse_and_nothing():
    found = embedding_geometry(np.ones((6, 4)), [0, 0, 0, 1, 1, 1])
    assert found == pytest.approx({"n": 6, "labels": 2, "rankme": 1} | dict.fromkeys(set(found) - {"n", "labels", "rankme"}, 0), abs=1e-12)
    assert embedding_geometry(np.zeros((3, 4)), [0, 0, 1])["compactness"] == 0, "a zero vector has no direction, and stays"
    nothing = embedding_geometry(np.zeros((0, 4)), [])
    assert nothing.pop("n") == nothing.pop("labels") == 0 and all(math.isnan(value) for value in nothing.values())


def test_refusals():
    with pytest.raises(ValueError, match="labels"):
        silhouette(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match=r"\[n, D\]"):
        uniformity(np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        embedding_geometry([[1.0, math.nan]], [0])
