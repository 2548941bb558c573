"""Where the networks put tissues and frames: their features in two dimensions, and in numbers whether they lie by tissue or by patient."""

import numpy as np

from uscl.report import pairs
from uscl.report.figures import MUTED, SERIES, Panel
from uscl.report.folder import Missing
from uscl.report.study_measures import number, read
from uscl.report.tables import figure

CLOUDS = (  # points, their label, what is told, whether the labels are classes
    ("region_z", "region_class", "regions by class", True), ("region_z", "region_cine", "regions by cine", False),
    ("z", "cine", "frames by cine", False),
)  # fmt: skip
LABELLINGS = {("regions", "class"): "regions by class", ("regions", "cine"): "regions by cine", ("frames", "cine"): "frames by cine"}
MEASURES = {  # of geometry.json: what the table's head says, and which way is better where tissues are to be told apart
    "compactness": ("compactness", "lower: tighter"), "separability_mean": ("separability", "higher: apart"),
    "silhouette": ("silhouette", "1 apart, 0 mixed"), "alignment": ("alignment", "lower: nearer"),
    "uniformity": ("uniformity", "lower: more even"), "rankme": ("effective rank", "directions in use"),
}  # fmt: skip


def section(study, easel, models):
    """Two dimensions of every model's features by class and by cine, and the table of how they lie."""
    blocks, embedded = [], {}
    for name, run in models.items():
        try:
            embedded[name] = run.folder.arrays("evaluate/embedding.npz", "z", "cine")
        except Missing:
            continue
    plain = [name for name, found in embedded.items() if "region_z" not in found]
    classes = sorted({str(kind) for found in embedded.values() for kind in found.get("region_class", ())})
    if classes:
        key = [("dot", SERIES[k % len(SERIES)], kind.replace("_", " ")) for k, kind in enumerate(classes)]
        blocks.append({"kind": "legend", "legend": key})
    for name, found in embedded.items():
        clouds = [cloud for cloud in CLOUDS if _drawable(found, *cloud[:2])]
        panels = [_cloud(found[z], found[label], title, classes if named else ()) for z, label, title, named in clouds]
        if panels:
            blocks.append({"kind": "heading", "text": name, "note": ""})
            blocks.append(easel.block(f"embedding-{len(blocks)}", panels, columns=3))
    try:
        geometry = read(models, "evaluate/geometry.json")
    except Missing as missing:
        if not blocks:
            raise Missing("no run has written its evaluate/embedding.npz") from None
        geometry, told = {}, [{"kind": "missing", "text": str(missing)}]
    else:
        rows = [row for name, entry in geometry.items() for row in _rows(name, entry)]
        head = ["model", *({"value": name, "note": way} for name, way in MEASURES.values())]
        told = [{"kind": "heading", "text": "How they lie", "note": ""}]
        told.append({"kind": "table", "table": {"head": head, "rows": rows}, "strong": False})
    notes = [sentence] if (sentence := knows(geometry)) else []
    notes += [f"No regions in evaluate/embedding.npz of {', '.join(plain)}: no picture by class."] if plain else []
    text = (
        "Features of test images, scaled to length 1, on the two directions in which they vary most. A region is the last decoder map "
        "averaged over the true pixels of one class in one image, a frame the mean of the bottleneck. Points that part by class know the "
        "tissue, points that part by cine know the patient. The largest cines have a colour, the others are gray."
    )
    return {"text": text, "blocks": blocks + told, "notes": notes}


def knows(geometry):
    """One sentence that says whether regions lie by tissue or by patient, from the silhouettes alone; "" where there are none.

    geometry: {model: content of geometry.json}. A model knows the tissue where the silhouette by class is above 0 and above that by cine,
    the patient where that by cine is above 0 and as high or higher, and neither where both are 0 or below.
    """
    words = {"the tissue": [], "the patient": [], "neither": []}
    for name, entry in geometry.items():
        tissue, patient = (_value(entry, "regions", by, "silhouette") for by in ("class", "cine"))
        if tissue == tissue and patient == patient:
            word = "neither" if max(tissue, patient) <= 0 else "the tissue" if tissue > patient else "the patient"
            words[word].append(f"{name} ({figure(tissue, 2)} by class, {figure(patient, 2)} by cine)")
    said = "; ".join(f"{word} in {', '.join(names)}" for word, names in words.items() if names)
    return f"By the silhouettes of the regions, the embedding knows {said}." if said else ""


def _value(entry, *keys):
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return number(entry)


def _rows(name, entry):
    rows = []
    for (what, by), said in LABELLINGS.items():
        measures = [_value(entry, what, by, measure) for measure in MEASURES]
        if any(value == value for value in measures):
            n, labels = (_value(entry, what, by, key) for key in ("n", "labels"))
            note = f": {n:,.0f} of {labels:,.0f} {'classes' if by == 'class' else 'cines'}" if n == n and labels == labels else ""
            rows.append([{"value": name, "note": said + note}, *(figure(value) for value in measures)])
    return rows


def _drawable(found, z, label):
    points = found.get(z)
    if points is None or label not in found or points.ndim != 2:
        return False
    return len(points) == len(found[label]) >= 3 and bool(np.isfinite(points).all())


def _cloud(z, label, title, classes):
    """A panel of points, coloured by class in the legend's order, or where there are no classes by the largest labels."""
    flat, share = pairs.principal(np.asarray(z, float))
    kinds, sizes = np.unique(label, return_counts=True)
    kinds = np.array(classes) if len(classes) else kinds[np.argsort(-sizes, kind="stable")]

    def draw(axes):
        for k, kind in reversed(list(enumerate(kinds))):
            bright = k < len(SERIES) or len(classes)
            colour = SERIES[k % len(SERIES)] if bright else MUTED
            axes.plot(*flat[label == kind].T, "o", color=colour, markersize=2.8, markeredgewidth=0, alpha=0.75 if bright else 0.3)
        axes.set_xlabel(f"component 1, {share[0]:.0%} of the variance")
        axes.set_ylabel(f"component 2, {share[1]:.0%}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")

    what = f"{len(kinds)} {'classes' if len(classes) else 'cines'}"
    return Panel(draw, title, f"embeddings of {len(z)} {title}, {what}", width=2.8, height=2.6)
