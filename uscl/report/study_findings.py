"""What the study says of the papers' claims: one plain sentence for each, with its interval, or that it was not yet run."""

from dataclasses import dataclass

import numpy as np

from uscl.report.study_folder import percent
from uscl.report.study_layout import every, plain, reference
from uscl.report.study_tables import LOWER_IS_BETTER, NOT_RUN, REPEATS, Scores, Values, signed
from uscl.report.tables import plural
from uscl.study import labels, papers, statistics

FEW = 0.1  # the share of labels at which the papers see a gain by temporal weights
SWITCHES = {"nnunet.loss.speckle", *(f"finetune.speckle.{key}" for key in ("form", "envelope", "window", "window_mm"))}
WHERE = ("on gray levels", "on the decompressed envelope", "as a local map")


@dataclass(frozen=True)
class Claim:
    """One comparison behind the first paragraph: what is held against what, at which shares of the labels, in which measure."""

    subject: str
    shares: tuple[float, ...]
    measure: str
    difference: statistics.Difference

    def word(self, corrected):
        d, better = self.difference, self.measure not in LOWER_IS_BETTER
        return statistics.verdict(d.mean, (d.low, d.high), corrected, higher_is_better=better).word

    def told(self, word):
        """`mean DSC +0.060 (95 % interval +0.050 to +0.070): better`."""
        d = self.difference
        ends = f"95 % interval {signed(d.low)} to {signed(d.high)}" if d.low == d.low else "one patient or seed gives no interval"
        return f"{'mean DSC' if self.measure == 'dsc' else 'ΔSNR'} {signed(d.mean)} ({ends}): {word}"


def findings(study, scores):
    """[(claim, sentence)] for each of the papers' claims, in their order; all comparisons told here are corrected as one family."""
    claims = {
        "pretraining": _scratch(study, scores), "temporal": _pooled(study, scores),
        **{where: [c for name in names for c in _speckle(study, scores, name)] for where, names in speckle_rows(study).items()},
    }  # fmt: skip
    every_one = [claim for found in claims.values() for claim in found]
    corrected = dict(zip(map(id, every_one), statistics.holm([claim.difference.p for claim in every_one]), strict=True))

    def told(key):
        words = [claim.word(corrected[id(claim)]) for claim in claims[key]]
        by_subject = {}
        for claim, word in zip(claims[key], words, strict=True):
            by_subject.setdefault((claim.subject, claim.shares), []).append(claim.told(word))
        said = [f"{subject}{', '.join(parts)}, {_at(shares)}" for (subject, shares), parts in by_subject.items()]
        dsc = [word for claim, word in zip(claims[key], words, strict=True) if claim.measure == "dsc"]
        return (answer(dsc), "; ".join(said) + ".") if said else ("Not yet run.", "")

    pretrained, averaged = told("pretraining"), told("temporal")
    scratch = f"{pretrained[0]} Against the same network from random weights: {pretrained[1]}" if pretrained[1] else pretrained[0]

    return [
        ("Does contrastive pretraining save labels?", saving(study, scores)),
        ("Is it the pretraining?", scratch),
        ("Do temporal weights help with few labels?", counted(study, scores) + averaged[1] if averaged[1] else averaged[0]),
        *((f"Does the speckle loss help {where}?", " ".join(told(where)).strip()) for where in WHERE),
    ]


def answer(words):
    """A plain answer from the verdicts on mean DSC of everything that stands behind a claim."""
    if "better" not in words:
        return "No, it harms." if "worse" in words else "Not beyond the noise."
    return "Yes." if set(words) == {"better"} else "In part."


def saving(study, scores):
    """Labels that the contrastive model needs to match nnU-Net at all of them, as the papers put it."""
    model, other = (_plain(study, "labels", kind) for kind in ("baseline", "nnunet"))
    found = {share: _scores(scores, model, share, "dsc") for share in study.fractions("labels") if model}
    goal = other and _scores(scores, other, 1.0, "dsc")
    left = [percent(share) for share, values in found.items() if values is None]
    found = {share: values for share, values in found.items() if values}
    if not found or not goal:
        return "Not yet run."
    images = [image for image in goal.images if all(image in set(values.images) for values in found.values())]
    seeds = "drawn" if min(map(len, [goal.seeds, *(values.seeds for values in found.values())])) > 1 else "kept"
    values = {share: entry.at(images) for share, entry in found.items()}
    match = labels.labels_to_match(values, goal.at(images), goal.patients_of(images), seeds=seeds, repeats=REPEATS)
    low, high = sorted(papers.SHARE_CLAIMED.values())
    lacking = f" At {', '.join(left)} it was {NOT_RUN}." if left else ""
    sure = match.high is not None and match.high < 1
    plainly = "Yes." if sure else "No." if match.share is None and match.low is None else "Not beyond the noise."
    told = f"Held against nnU-Net at all labels, the contrastive model {labels.match_sentence(match)}"
    told = f"{told} The papers say: at {percent(low)} or {percent(high)}.{lacking}"
    return f"{_fallen(study, scores, other, goal) or plainly} {told}"


def _fallen(study, scores, other, goal):
    """A reference that is worse with all labels than with few is no measure of what labels are worth; "" where it is not."""
    for share in study.fractions("labels")[:-1]:
        few = _scores(scores, other, share, "dsc")
        d = few and Scores.difference(goal, few)
        if d and d.high < 0:
            return (
                f"It can't be said: nnU-Net itself falls from {percent(share)} to all labels, by {signed(d.mean)} ({signed(d.low)} to "
                f"{signed(d.high)}), so it has not learnt what they hold; give it more updates."
            )
    return ""


def counted(study, scores):
    """How many temporal variants differ from their baseline, each corrected for their number, and which stands highest."""
    share, measured, planned = _variants(study, scores)
    if not measured:
        return ""
    corrected = statistics.holm([d.p for *_, d in measured.values()])
    words = [statistics.verdict(d.mean, (d.low, d.high), p).word for (*_, d), p in zip(measured.values(), corrected, strict=True)]
    best = max(measured, key=lambda name: measured[name][2].mean)
    d = measured[best][2]
    told = f"{answer(words)} Of {plural(len(measured), 'variant')} {words.count('better')} better, {words.count('worse')} worse and "
    told += f"{words.count('inside the noise')} inside the noise at {percent(share)} of labels"
    told += f"{f', {planned - len(measured)} {NOT_RUN}' if planned > len(measured) else ''}; the highest, {study.label(best)}: "
    return told + f"mean DSC {signed(d.mean)} ({signed(d.low)} to {signed(d.high)}). All of them averaged: "


def _variants(study, scores):
    """(share, {name: (ours, baseline's, difference)}, number planned) at the papers' share of few labels, or the smallest planned."""
    names = [name for name, entry in study.experiments.items() if entry["table"] == "temporal" and reference(study, name)]
    planned = study.fractions("temporal")
    share = next((s for s in planned if abs(s - FEW) < 1e-9), min(planned, default=FEW))
    measured = {}
    for name in names:
        mine, other = (_scores(scores, n, share, "dsc") for n in (name, reference(study, name)))
        if mine and other:
            measured[name] = mine, other, Scores.difference(mine, other)
    return share, measured, len(names)


def _pooled(study, scores):
    share, measured, _ = _variants(study, scores)
    whole = _mean([mine for mine, *_ in measured.values()])
    return [Claim("", (share,), "dsc", Scores.difference(whole, next(iter(measured.values()))[1]))] if whole else []


def _scratch(study, scores):
    model = _plain(study, "labels", "baseline")
    names = [name for name, entry in study.experiments.items() if entry["config"] == "scratch"] if model else []
    return [claim for name in names[:1] if (claim := _claim(study, scores, "", model, name, "dsc"))]


def speckle_rows(study):
    """{where: names of experiments}: the speckle loss on gray levels for any model, on the envelope, as a map; nothing else changed."""
    kinds = {where: [] for where in WHERE}
    for name, entry in study.experiments.items():
        changes = entry.get("changes", {})
        if (entry["config"] == "speckle" or changes.get("nnunet.loss.speckle")) and not set(changes) - SWITCHES:
            form = changes.get("finetune.speckle.form", "parameters")
            where = WHERE[2] if form == "map" else WHERE[1] if changes.get("finetune.speckle.envelope") else WHERE[0]
            if form in ("parameters", "map"):
                kinds[where].append(name)
    return kinds


def _speckle(study, scores, name):
    subject = f"{study.label(name)}: "
    found = [_claim(study, scores, subject, name, reference(study, name), measure) for measure in ("dsc", "delta_snr")]
    return [claim for claim in found if claim]


def _claim(study, scores, subject, name, other, measure):
    """The two held against each other by each image's mean over all shares that both have; None where there is no such share."""
    both = {share: [_scores(scores, n, share, measure) for n in (name, other)] for share in study.all_fractions}
    both = {share: pair for share, pair in both.items() if all(pair)}
    mine, theirs = (_mean([pair[side] for pair in both.values()]) for side in (0, 1))
    return Claim(subject, tuple(both), measure, Scores.difference(mine, theirs)) if mine and theirs else None


def _mean(several):
    """The mean of several scores image by image, over the seeds and images that all of them have; None where there are none."""
    if not several:
        return None
    seeds = [seed for seed in several[0].seeds if all(seed in one.seeds for one in several)]
    images = [image for image in several[0].images if all(image in set(one.images) for one in several)]
    values = [one.at(images)[[one.seeds.index(seed) for seed in seeds]] for one in several]
    return Values(np.mean(values, axis=0), images, seeds) if seeds and images else None


def _scores(scores, name, share, measure):
    return scores.of(name, share, measure, every(scores, measure))


def _at(shares):
    return f"{'at' if len(shares) == 1 else 'averaged over'} {', '.join(percent(share) for share in shares)} of labels"


def _plain(study, table, kind):
    found = [name for name, entry in study.experiments.items() if plain(entry) and entry["config"] == kind]
    return next((name for name in found if study.experiments[name]["table"] == table), None) or next(iter(found), None)
