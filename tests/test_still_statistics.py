"""Figures of stills named by several networks: by hand, and intervals, differences and slopes against loops over copied rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import reference_repetitions as reference

from uscl.metrics import confusion, macro
from uscl.study import repetitions, still_statistics, video_statistics

NAMES = ["abdomen", "femur", "head"]


def drawn_up(seed, *, right=0.6, n=14, patients=6, seeds=3, draws=1):
    """A cell whose calls are right so often; one class is of two patients alone, so that some resamples lack it."""
    rng = np.random.default_rng(seed)
    owner = np.arange(n) % patients
    label = np.where(owner < 2, np.arange(n) % 3, np.arange(n) % 2)
    called = np.where(rng.random((seeds * draws, n)) < right, label, rng.integers(0, 3, (seeds * draws, n)))
    rest = {"patient": np.array([f"p{k}" for k in owner]), "cine": np.arange(n), "fold": np.full(n, -1), "classes": tuple(NAMES)}
    return SimpleNamespace(called=called, label=label, repetitions=[(s, d) for s in range(seeds) for d in range(draws)], **rest)


A, B, C = drawn_up(1, right=0.8), drawn_up(2, right=0.5), drawn_up(3, right=0.3, draws=2)


def test_figures_by_hand():
    # Calls: abdomen right, a femur right and one called a head, a head right.
    cell = SimpleNamespace(called=np.array([[0, 1, 2, 2], [0, 1, 1, 2]]), label=np.array([0, 1, 1, 2]), patient=np.array(list("babc")))
    cell.classes = NAMES
    assert still_statistics.values(cell, "macro_f1") == pytest.approx([(1 + 2 / 3 + 2 / 3) / 3, 1.0])
    assert still_statistics.values(cell, "accuracy") == pytest.approx([3 / 4, 1.0])
    assert still_statistics.values(cell, "macro_precision") == pytest.approx([(1 + 1 + 1 / 2) / 3, 1.0])
    # Patients a, b, c have a femur that is right; an abdomen and a femur called a head; a head. b twice, c never: no head in truth.
    found = still_statistics.weighted(cell, "macro_f1", [[1, 2, 0]])
    assert found == pytest.approx(np.array([[(1 + 2 / 4) / 2], [1.0]]))
    assert still_statistics.counts(cell)[1, 0].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert np.isnan(still_statistics.weighted(cell, "macro_f1", [[0, 0, 0]])).all()


def test_weights_are_rows_that_stand_there_so_often():
    weight = np.random.default_rng(0).integers(0, 3, (8, 6))
    found = still_statistics.weighted(C, "macro_f1", weight)
    want = [[reference.of_rows(C, s, times) for times in weight] for s in range(6)]
    assert found == pytest.approx(np.array(want), abs=1e-12)
    for s in range(6):
        assert still_statistics.values(C, "macro_f1")[s] == pytest.approx(macro(confusion(C.label, C.called[s], classes=3)).f1)


@pytest.mark.parametrize("seeds", ["kept", "drawn"])
def test_intervals_differences_and_contrasts_against_loops(seeds):
    how = {"seeds": seeds, "repeats": 60, "seed": 5, "level": 0.8}
    mean, values = reference.resampled(C, 0, seeds=seeds, repeats=60, seed=5)
    assert still_statistics.interval(C, "macro_f1", **how) == pytest.approx((mean, *reference.percentiles(values, 0.8)), abs=1e-12)
    assert still_statistics.difference(A, C, "macro_f1", **how) == pytest.approx(reference.contrast([A, C], [1, -1], **how), abs=1e-12)
    line = (-0.5, 0.0, 0.5)
    told = still_statistics.contrast([C, B, A], line, "macro_f1", **how)
    assert told == pytest.approx(reference.contrast([C, B, A], line, **how), abs=1e-12)
    rise = [still_statistics.interval(cell, "macro_f1", **how).mean for cell in (C, B, A)]
    assert told.mean == pytest.approx(np.polyfit([0, 1, 2], rise, 1)[0])


def test_contrast_known_values():
    for kind, cells, figure in ((still_statistics, (A, B), "macro_f1"), (video_statistics, videos_of(A, B), "accuracy")):
        one = kind.difference(*cells, figure, repeats=200)
        twice = kind.contrast(cells, (2, -2), figure, repeats=200)
        assert twice == pytest.approx((2 * one.mean, 2 * one.low, 2 * one.high, one.p)) and one.mean != 0
        assert kind.contrast(cells[:1], (1,), figure, repeats=200)[:3] == kind.interval(cells[0], figure, repeats=200)
    same = still_statistics.contrast([A, A, A], (1, -2, 1), "macro_f1", seeds="kept", repeats=200)
    assert same == pytest.approx((0, 0, 0, 1), abs=1e-12) and same.p == 1
    wrong = SimpleNamespace(**vars(A) | {"called": (A.label + 1)[None].repeat(3, 0)})
    right = SimpleNamespace(**vars(A) | {"called": A.label[None].repeat(3, 0)})
    assert still_statistics.difference(right, wrong, "macro_f1", repeats=500) == pytest.approx((1, 1, 1, 2.0**-5)), "six patients"


def videos_of(*cells):
    """The same cells, of videos: what is called a head is positive."""
    return tuple(
        SimpleNamespace(score=cell.called == 2.0, called=cell.called == 2, label=cell.label == 2, **{
            name: getattr(cell, name) for name in ("patient", "cine", "fold", "repetitions")}) for cell in cells
    )  # fmt: skip


def test_slope():
    assert repetitions.slope((0, 1)) == pytest.approx([-1, 1]) and repetitions.slope((0, 1, 2)) == pytest.approx([-0.5, 0, 0.5])
    x, y = np.array([0, 0.1, 0.3, 0.5, 0.8, 1]), np.array([3, 1, 4, 1, 5, 9])
    assert repetitions.slope(x) @ y == pytest.approx(np.polyfit(x, y, 1)[0])
    with pytest.raises(ValueError, match="two different places"):
        repetitions.slope((0.3, 0.3))


def test_mistakes_of_the_caller():
    with pytest.raises(ValueError, match="'auc'"):
        still_statistics.values(A, "auc")
    with pytest.raises(ValueError, match=r"\[R, 6\]"):
        still_statistics.weighted(A, "macro_f1", np.ones((1, 14)))
    with pytest.raises(ValueError, match="one coefficient a cell"):
        still_statistics.contrast([A, B], (1,), "macro_f1")
    for name, value in {"classes": ("a", "b", "c"), "label": 1 - A.label, "cine": A.cine + 1, "patient": A.patient[::-1]}.items():
        with pytest.raises(ValueError, match=f"differ in {name}"):
            still_statistics.difference(A, SimpleNamespace(**vars(B) | {name: value}), "macro_f1")
