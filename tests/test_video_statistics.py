"""Figures of classified videos over repetitions, folds and patients: by hand, by loops over copied rows, and by every possible draw."""
from types import SimpleNamespace

import numpy as np
import pytest
from reference_video_statistics import every_draw, figure

from uscl.metrics import auc, bootstrap_patients, bootstrap_statistic
from uscl.study.video_statistics import FIGURES, difference, interval, values, weighted


def made(score, label, patient, *, fold=None, cut=0.5):
    """A cell as far as the arithmetic looks at it."""
    score = np.atleast_2d(np.asarray(score, float))
    n = score.shape[1]
    rest = {"label": np.asarray(label), "patient": np.array(list(patient)), "fold": np.asarray([-1] * n if fold is None else fold)}
    return SimpleNamespace(score=score, called=score >= cut, cine=np.arange(n), **rest)


def drawn_up(seed, *, n=9, patients=4, repetitions=3, folds=2):
    """A cell of coarse scores with ties, whose patients are in one fold each; two have videos of both classes."""
    rng = np.random.default_rng(seed)
    owner = np.arange(n) % patients
    return made(rng.integers(0, 6, (repetitions, n)) / 5, rng.permutation(np.arange(n) % 2), [f"p{k}" for k in owner], fold=owner % folds)


A, B = drawn_up(1), drawn_up(4)
B.label, B.called = A.label, B.score >= 0.5


def test_auc_by_hand():
    one = made([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], "abcd")
    assert values(one, "auc") == pytest.approx([0.75])
    assert values(made([[1, 1, 1, 1], [4, 3, 2, 1]], [0, 0, 1, 1], "abcd"), "auc") == pytest.approx([0.5, 0.0])
    # Patient b twice: pairs (c, a), (c, b) x 2, (d, a), (d, b) x 2, of which (c, b) x 2 are lost.
    assert weighted(one, "auc", [[1, 2, 1, 1]]) == pytest.approx(np.array([[4 / 6]]))
    infinite = made([-np.inf, np.inf, np.inf, 0], [0, 0, 1, 1], "abcd")
    assert values(infinite, "auc") == pytest.approx([2.5 / 4])


def test_only_pairs_inside_a_fold_count():
    label, fold, score = [0, 1, 0, 1, 1], [0, 0, 1, 1, 1], np.array([2.0, 1.0, 1.0, 3.0, 0.0])
    for shift in (0, 100, -100):
        moved = made(score + shift * np.array(fold), label, "aabbc", fold=fold)
        assert values(moved, "auc") == pytest.approx([1 / 3]), "one pair of three, whatever the second network's scale"
    assert values(made(score, label, "aabbc"), "auc") == pytest.approx([2.5 / 6]), "without folds: six pairs"
    assert values(made(score + 100 * np.array(fold), label, "aabbc"), "auc") == pytest.approx([3 / 6])
    assert np.isnan(values(made([1, 2], [0, 1], "ab", fold=[0, 1]), "auc")), "both classes, and no pair"


def test_calls_by_hand():
    cell = made([0.9, 0.1, 0.7, 0.6, 0.2], [1, 1, 1, 0, 0], "aabcc")
    assert [values(cell, name)[0] for name in FIGURES] == pytest.approx([4 / 6, 3 / 5, 2 / 3, 1 / 2])
    assert weighted(cell, "accuracy", [[0, 3, 1], [2, 0, 0]]) == pytest.approx(np.array([[4 / 5, 1 / 2]]))
    assert weighted(cell, "specificity", [[0, 3, 1], [2, 0, 0]])[0] == pytest.approx([0.5, np.nan], nan_ok=True)
    cell.called = ~cell.called
    assert [values(cell, name)[0] for name in FIGURES] == pytest.approx([4 / 6, 2 / 5, 1 / 3, 1 / 2]), "the cut means nothing to the AUC"


@pytest.mark.parametrize("name", FIGURES)
def test_weights_are_rows_that_stand_there_so_often(name):
    cell, weight = drawn_up(7, n=14, patients=5), np.random.default_rng(0).integers(0, 3, (12, 5))
    found = weighted(cell, name, weight)
    for b, counts in enumerate(weight):
        rows = [i for i in range(14) for _ in range(counts[int(cell.patient[i][1])])]
        assert found[:, b] == pytest.approx([figure(name, cell, s, rows) for s in range(3)], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seeds", ["kept", "drawn"])
@pytest.mark.parametrize("name", ["auc", "sensitivity"])
def test_against_every_possible_draw(name, seeds):
    mine, other = every_draw(name, A, seeds), every_draw(name, B, seeds)
    found = interval(A, name, seeds=seeds, level=0.8, repeats=20000)
    exact = np.concatenate(list(mine.values()))
    assert found.mean == pytest.approx(np.mean([figure(name, A, s, range(9)) for s in range(3)]))
    assert found[1:] == pytest.approx(np.nanquantile(exact, [0.1, 0.9]), abs=0.02)
    apart = np.concatenate([np.subtract.outer(mine[at], other[at]).ravel() for at in mine])
    apart = apart[~np.isnan(apart)]
    told = difference(A, B, name, seeds=seeds, level=0.8, repeats=20000)
    assert told.mean == pytest.approx(found.mean - np.mean([figure(name, B, s, range(9)) for s in range(3)]))
    assert told[1:3] == pytest.approx(np.quantile(apart, [0.1, 0.9]), abs=0.02)
    asked = {p for p, t in zip(A.patient, A.label, strict=True) if t == 1 or name == "auc"}
    lean = 2 * min((apart <= 1e-12).mean(), (apart >= -1e-12).mean())
    assert told.p == pytest.approx(min(1, max(lean, 2.0 ** (1 - len(asked)))), abs=0.02)


def test_the_draws_are_those_of_the_metrics():
    cell = drawn_up(3, n=40, patients=20, repetitions=1, folds=1)
    right = cell.called[0] == cell.label
    assert interval(cell, "accuracy", seeds="kept", repeats=300, seed=5) == pytest.approx(
        tuple(bootstrap_patients(right, cell.patient, repeats=300, seed=5)), abs=1e-12
    )
    assert interval(cell, "auc", seeds="kept", repeats=300, seed=5, level=0.9) == pytest.approx(
        tuple(bootstrap_statistic(auc, cell.label, cell.score[0], patients=cell.patient, repeats=300, seed=5, level=0.9)), abs=1e-12
    )


def test_difference_known_values():
    label, patient = np.arange(80) % 2, np.arange(80) // 2
    right = made([label, label], label, patient)
    wrong = made([1 - label] * 3, label, patient)
    for name in FIGURES:
        assert difference(right, wrong, name, repeats=500) == pytest.approx((1, 1, 1, 2 / 501))
        assert difference(wrong, right, name, repeats=500) == pytest.approx((-1, -1, -1, 2 / 501))
        assert difference(right, right, name, repeats=500) == (0, 0, 0, 1)
        assert interval(right, name, repeats=500) == (1, 1, 1)
    few = [made([score] * 2, label[:6], patient[:6]) for score in (label[:6], 1 - label[:6])]
    assert difference(*few, "auc", repeats=500).p == pytest.approx(1 / 4)
    ours, theirs = (made([score] * 2, [1, 1, 0, 0, 0], "abcde") for score in ([1, 1, 0, 0, 0], [0, 0, 1, 1, 1]))
    found = [difference(ours, theirs, name, repeats=500).p for name in FIGURES]
    assert found == pytest.approx([1 / 16, 1 / 16, 1 / 2, 1 / 4]), "two patients are asked for the sensitivity, three for the specificity"


def test_repetitions_are_drawn_only_where_asked_and_apart_for_each_model():
    label = np.arange(20) % 2
    levels = made([label, 1 - label, label], label, np.arange(20))
    assert interval(levels, "auc", seeds="kept", repeats=400) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert interval(levels, "auc", repeats=400) == pytest.approx((2 / 3, 0, 1)), "two of three: both may be the bad one"
    assert difference(levels, levels, "auc", repeats=4000)[:3] == pytest.approx((0, -1, 1))


def test_undefined_draws_are_left_out_and_a_fifth_of_them_takes_the_interval():
    # One draw in 32 has patients of one class alone; all others are in perfect order.
    assert interval(made([[6, 5, 4, 3, 2, 1]] * 2, [1, 1, 1, 0, 0, 0], "abcdef"), "auc", repeats=600) == (1, 1, 1)
    # Every draw without c lacks a negative (8 of 27), ccc a positive (1): a third.
    assert interval(made([[2, 3, 1]] * 2, [1, 1, 0], "abc"), "auc", repeats=600) == pytest.approx((1, np.nan, np.nan), nan_ok=True)
    # Pairs are of a and b alone: 15 of 27 draws have none.
    lone = made([[2, 1, 9]] * 2, [1, 0, 1], "abc", fold=[0, 0, 1])
    assert interval(lone, "auc", repeats=600) == pytest.approx((1, np.nan, np.nan), nan_ok=True)
    assert np.isnan(difference(lone, lone, "auc", repeats=600).p)


def test_what_cannot_be_resampled_has_no_interval():
    single = made([0.9, 0.1, 0.2, 0.8, 0.3, 0.7], [1, 0, 1, 0, 1, 0], "abcdef")
    assert interval(single, "auc") == pytest.approx((5 / 9, np.nan, np.nan), nan_ok=True), "one repetition, to be drawn"
    assert np.isfinite(interval(single, "auc", seeds="kept")).all()
    assert interval(made([0.9, 0.1], [1, 0], "aa"), "auc", seeds="kept") == pytest.approx((1, np.nan, np.nan), nan_ok=True)
    alone = difference(made([[0.9, 0.1]] * 2, [1, 0], "ab"), made([[0.1, 0.1]] * 2, [1, 0], "ab"), "sensitivity")
    assert alone == pytest.approx((1, np.nan, np.nan, np.nan), nan_ok=True), "one patient has positives"


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="'paired'"):
        interval(A, "auc", seeds="paired")
    with pytest.raises(ValueError, match="'f1'"):
        values(A, "f1")
    with pytest.raises(ValueError, match="nan"):
        values(made([np.nan, 1], [0, 1], "ab"), "auc")
    with pytest.raises(ValueError, match=r"\[R, 4\]"):
        weighted(A, "auc", np.ones((1, 9)))
    with pytest.raises(ValueError, match="label"):
        values(made([0.1, 1], [0, 1, 1], "ab"), "auc")
    with pytest.raises(ValueError, match="differ in label"):
        difference(A, made(A.score, 1 - A.label, A.patient, fold=A.fold), "auc")


def test_draws_of_one_seed_are_one_repetition():
    once = drawn_up(4, repetitions=3)
    thrice = made(np.repeat(once.score, 3, axis=0), once.label, once.patient.tolist(), fold=once.fold)
    thrice.repetitions = [(seed, draw) for seed in (5, 7, 9) for draw in range(3)]
    for name in FIGURES:
        assert interval(thrice, name, repeats=200) == pytest.approx(interval(once, name, repeats=200), nan_ok=True)
    alone = made(thrice.score, once.label, once.patient.tolist(), fold=once.fold)
    alone.repetitions = [(5, draw) for draw in range(9)]  # of one seed the draws are what there is
    unknown = made(thrice.score, once.label, once.patient.tolist(), fold=once.fold)
    assert interval(alone, "auc", repeats=200) == interval(unknown, "auc", repeats=200)
    uneven = made([[1, 0], [0, 1], [1, 0]], [1, 0], "ab")  # both right, both wrong; and of another seed both right
    uneven.repetitions = [(0, 0), (0, 1), (1, 0)]
    assert interval(uneven, "accuracy", repeats=50).mean == 0.75
