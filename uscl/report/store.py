"""A page about a store: who is in it, how long and how fast its cines are, what they look like, what was left out."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from uscl.metrics import class_mask
from uscl.report.figures import BLUE, Easel, Panel
from uscl.report.overlays import UNION, legend, outlines, tile
from uscl.report.page import fill
from uscl.report.tables import figure, plural

PARTS = ("train", "validation", "test")
SHOWN = 24  # images on a contact sheet
LOOKED_AT = 400  # frames read for the intensities, one a cine
MOST_ROWS = 20  # of a table
FOOTER = "Drawn by uscl from the store beside it. Pixels can never be proven to show no name: look at them before you pass a store on."


def write_page(store, rejected: Path, path: Path) -> Path:
    """Draws the page of an open `Store` into one self-contained file. rejected: a csv with the columns path,reason; may be missing."""
    lines = []
    if Path(rejected).is_file():
        with open(rejected, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    easel, cines = Easel(None), store.cines
    sections = {
        "cines": ("Cines", _cines(store, easel)),
        "labels": ("Labels", _labels(store, easel)),
        "numbers": ("Numbers", _numbers(store, easel)),
        "patients": ("Patients", _patients(store)),
        "attributes": ("Attributes", _attributes(store)),
        "left": ("Left out", _left_out(lines)),
    }
    patients = len(set(cines.patient))
    said = f"{plural(len(cines), 'recording')} of {plural(patients, 'patient')}, {plural(int(cines.frames.sum()), 'frame')}"
    tiles = [
        {"name": "labelled frames", "value": figure(len(store.labelled)), "note": ", ".join(store.classes) or "no classes"},
        {"name": "side", "value": f"{store.size} px", "note": _range(cines.mm_per_pixel, "mm a pixel", 3)},
        {"name": "time between frames", "value": _range(cines.frame_ms, "ms", 0), "note": _known(cines.frame_ms)},
        {"name": "left out or remarked", "value": figure(len(lines)), "note": "see the end of the page"},
    ]
    blank = {"text": "", "blocks": [], "notes": [], "missing": ""}
    shown = [{"anchor": anchor, "title": title, **blank, **content} for anchor, (title, content) in sections.items() if content]
    page = fill(title=store.path.resolve().name, scale="store", headline=said, tiles=tiles, sections=shown, footer=FOOTER)
    path.write_text(page, "utf-8")
    return path


def _range(values, unit, digits):
    known = values[np.isfinite(values)]
    if not len(known):
        return f"{unit} unknown"
    low, high = (figure(float(v), digits) for v in (known.min(), known.max()))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _known(values):
    return f"known of {np.isfinite(values).sum():,} of {plural(len(values), 'recording')}"


def _spread(count):
    """At most SHOWN of `count` places, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, SHOWN)).astype(int)) if count else []


def _cines(store, easel):
    panels = []
    for c in _spread(len(store.cines)):
        beam = store.beams[int(c)].astype(bool)
        edge = [] if beam.all() else [(beam, UNION, True)]
        caption = f"{c} · {store.patient(c)} · {plural(store.length(c), 'frame')}"
        panels.append(tile(store.frame(c, store.length(c) // 2), caption, edge))
    text = "The middle frame of recordings spread over the store; dashed, the beam, outside which all is blanked. Look for text inside."
    return {"text": text, "blocks": [easel.block("cines", panels, columns=6)]}


def _labels(store, easel):
    if not len(store.labelled):
        return {"text": "No frame is labelled: this store is for pretraining, and for classes that attributes.csv tells."}
    key, panels = legend(store.classes), []
    for row in _spread(len(store.labelled)):
        line = store.labelled[row]
        lines = outlines(store.labels[int(row)], store.classes)
        panels.append(tile(store.frame(line.cine, line.frame), f"{line.cine} · frame {line.frame}", lines))
    return {
        "text": "Labelled frames spread over the store, with the outlines of their classes.",
        "blocks": [easel.block("labels", panels, columns=6, legend=key), {"kind": "table", "table": _classes(store), "strong": False}],
    }


def _classes(store):
    """How many labelled frames of each part show a class, and how much of the frame it fills where it is."""
    share = {name: np.zeros(len(store.labelled)) for name in store.classes}
    for row in range(len(store.labelled)):
        label = store.labels[row]
        for name, values in store.classes.items():
            share[name][row] = class_mask(label, values).mean()
    rows_of = {part: store.rows_of(store.patients(part)) for part in PARTS}
    rows = [
        [name, ", ".join(map(str, store.classes[name])), *(figure(int((s[rows_of[part]] > 0).sum())) for part in PARTS),
         f"{100 * float(np.median(s[s > 0])):.1f} %" if (s > 0).any() else "–"]
        for name, s in share.items()
    ]  # fmt: skip
    return {"head": ["class", "values", *PARTS, {"value": "area", "note": "median where shown"}], "rows": rows}


def _numbers(store, easel):
    chosen = np.unique(np.linspace(0, len(store.cines) - 1, min(len(store.cines), LOOKED_AT)).astype(int))
    gray = [store.frame(c, store.length(c) // 2)[store.beams[int(c)].astype(bool)] for c in chosen]
    gray = [g for g in gray if len(g)]
    panels = [
        _bars(store.cines.frames, "frames a recording"), _bars(1000 / store.cines.frame_ms, "frames a second"),
        _bars(store.cines.mm_per_pixel, "mm a pixel"), _bars(np.array([g.mean() for g in gray]), "mean gray in the beam"),
        _bars(np.array([100 * (g >= 250).mean() for g in gray]), "% of the beam at 250 and above"),
        _bars(np.array([100 * store.beams[int(c)].mean() for c in chosen]), "% of the square in the beam"),
    ]  # fmt: skip
    text = f"One count a recording; the gray values are of the middle frame of {plural(len(chosen), 'recording')}."
    return {"text": text, "blocks": [easel.block("numbers", [p for p in panels if p], columns=3)]}


def _bars(values, name):
    known = values[np.isfinite(values)]
    if not len(known):
        return None

    def draw(axes):
        axes.hist(known, bins=min(30, max(5, len(np.unique(known)))), color=BLUE)
        axes.set_xlabel(name)
        axes.set_ylabel("recordings")

    return Panel(draw, name, f"histogram of {name}, median {np.median(known):.3g}", width=3.2, height=2.0)


def _patients(store):
    counts = []
    for part in PARTS:
        for patient in store.patients(part):
            cines = store.cines_of([patient])
            counts.append([patient, part, len(cines), int(store.cines.frames[cines].sum()), len(store.rows_of([patient]))])
    whole = [[part, *(sum(1 if i == 0 else row[i] for row in counts if row[1] == part) for i in (0, 2, 3, 4))] for part in PARTS]
    head = ["recordings", "frames", "labelled"]
    counts.sort(key=lambda row: -row[2])
    return {
        "text": "A patient lies in one part of the split, with everything recorded of them.",
        "blocks": [
            {"kind": "table", "table": {"head": ["part", "patients", *head], "rows": whole}, "strong": False},
            {"kind": "table", "table": {"head": ["patient", "part", *head], "rows": counts[:MOST_ROWS]}, "strong": False},
        ],
        "notes": [f"The {MOST_ROWS} patients with most recordings, of {len(counts)}."] if len(counts) > MOST_ROWS else [],
    }


def _attributes(store):
    blocks = []
    for column, values in store.attributes.items():
        often = Counter(values).most_common(12)
        rows = [[value or "(empty)", figure(count)] for value, count in often]
        blocks += [{"kind": "heading", "text": column, "note": plural(len(set(values)), "value")}]
        blocks += [{"kind": "table", "table": {"head": ["value", "recordings"], "rows": rows}, "strong": False}]
    return {"text": "What came with the recordings, the most frequent values.", "blocks": blocks} if blocks else None


def _left_out(lines):
    rows = [[line["path"], line["reason"]] for line in lines[:MOST_ROWS]]
    block = {"kind": "table", "table": {"head": ["file", "why"], "rows": rows}, "strong": False, "prose": True}
    more = [f"{len(lines) - MOST_ROWS} more are in rejected.csv."] if len(lines) > MOST_ROWS else []
    return {"text": "As rejected.csv has it. It names your files as they are.", "blocks": [block] if rows else [], "notes": more}
