"""The page about a store: one file that fetches nothing, numbers as counted here, and names that cannot become markup."""

import csv
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from uscl.data.store import Store
from uscl.data.writer import StoreWriter
from uscl.report import store as drawn
from uscl.report.store import LOOKED_AT, MOST_ROWS, SHOWN, write_page

SIZE, CLASSES = 16, {"kidney <b>": [1, 2], "$core & rim": [2]}
EVIL = 'p$0$ <script>alert(1)</script> & "q"'
VOID = {"meta", "br", "img", "link", "input", "hr"}


def filled(path, cines, *, classes=CLASSES, splits=None, **how):
    with StoreWriter(path, size=SIZE, classes=classes, splits=splits, **how) as writer:
        for cine in cines:
            writer.add(**cine)
    return Store.open(path)


def cines(seed=0):
    """Nine cines of eight patients; the first two are of one, whose name is markup. Cine 8 has no label."""
    rng = np.random.default_rng(seed)
    for n in range(9):
        frames = rng.integers(0, 256, (n + 1, SIZE, SIZE), np.uint8)
        label = np.zeros((SIZE, SIZE), np.uint8)
        label[:4] = 1
        label[: n // 4, :8] = 2  # in cines 4 .. 7 one row of eight pixels
        beam = np.ones((SIZE, SIZE), bool)
        beam[: n % 3] = False
        about = {"side": "left" if n < 6 else "right"} | ({"finding": "<i>stone</i>"} if n == 3 else {})
        yield {
            "patient": EVIL if n < 2 else f"p{n}", "frames": frames, "labels": {0: label, n: label} if n < 8 else None, "source": f"f{n}",
            "beam": beam, "frame_ms": 40.0 if n % 2 else None, "mm_per_pixel": 0.1 * (n + 1), "attributes": about,
        }  # fmt: skip


SPLITS = {"train": [EVIL, "p2", "p3", "p8"], "validation": ["p4", "p5"], "test": ["p6", "p7"]}
REJECTED = [("path", "reason"), *((f"s/<u>{n}.dcm", f"broken & {n}") for n in range(MOST_ROWS + 3))]


class Reader(HTMLParser):
    """Checks that tags close, and collects tables, headings, anchors and all that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.ids, self.headings, self.fetched, self.tags, self.cell = [], [], [], [], [], set(), None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        self.tags.add(tag)
        self.ids += [about["id"]] if tag == "section" else []
        links = [about.get(key) for key in ("src", "href", "srcset", "data", "action") if about.get(key)]
        self.fetched += [link for link in links if not link.startswith(("#", "data:"))]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th", "h2", "h3"):
            self.cell = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell.strip())
        if tag in ("h2", "h3"):
            self.headings.append(self.cell.strip())
        if tag in ("td", "th", "h2", "h3"):
            self.cell = None


def draw(store, folder, rejected=None):
    file = folder / "rejected.csv"
    if rejected:
        with open(file, "w", newline="", encoding="utf-8") as text:
            csv.writer(text).writerows(rejected)
    before = {p.name for p in folder.iterdir()}
    path = write_page(store, file, folder / "report.html")
    assert path == folder / "report.html" and {p.name for p in folder.iterdir()} == before | {"report.html"}
    text = path.read_text(encoding="utf-8")
    found = Reader(text)
    assert found.fetched == [] and "@import" not in text and "script" not in found.tags and not re.search(r"url\((?!#)", text)
    assert "http" not in text.replace("http://www.w3.org", "")
    return text, found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return draw(filled(folder / "my <store>", cines(), splits=SPLITS), folder, REJECTED)


def test_every_section_is_there_and_names_are_no_markup(page):
    text, found = page
    assert found.ids == ["cines", "labels", "numbers", "patients", "attributes", "left"]
    assert not found.tags & {"b", "u", "script", "store"} and "<i>" not in text
    for name in (EVIL, "kidney <b>", "$core & rim", "<i>stone</i>", "s/<u>0.dcm", "my <store>"):
        assert name not in text.replace(html.escape("&"), "&amp;") or name == html.escape(name)
        assert html.escape(name, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'")


def test_its_numbers_are_those_of_the_store(page):
    text, found = page
    given = list(cines())
    assert "9 recordings of 8 patients, 45 frames" in text and ">16<" not in text and "16 px" in text
    assert "known of 4 of 9 recordings" in text and "40 ms" in text and "0.100 to 0.900 mm a pixel" in text
    assert f">{len(REJECTED) - 1}<" in text and "3 more are in rejected.csv." in text
    classes, parts, patients, *attributes, left = found.tables
    part_of = {name: part for part, names in SPLITS.items() for name in names}
    shown = {name: dict.fromkeys(SPLITS, 0) for name in CLASSES}
    share = {name: [] for name in CLASSES}
    for cine in given:
        for label in (cine["labels"] or {}).values():
            for name, values in CLASSES.items():
                pixels = sum(int((label == v).sum()) for v in values)
                shown[name][part_of[cine["patient"]]] += pixels > 0
                share[name] += [pixels / 256] if pixels else []
    assert [row[:5] for row in classes[1:]] == [
        [name, ", ".join(map(str, values)), *map(str, shown[name].values())] for name, values in CLASSES.items()
    ]
    assert [row[5] for row in classes[1:]] == [f"{100 * np.median(share[name]):.1f} %" for name in CLASSES]
    labelled = [len(cine["labels"] or {}) for cine in given]
    assert sum(labelled) == 15  # of cine 0 both are the same frame

    def count(cines_):
        return [str(len(cines_)), str(sum(len(given[n]["frames"]) for n in cines_)), str(sum(labelled[n] for n in cines_))]

    of = {part: [n for n in range(9) if part_of[given[n]["patient"]] == part] for part in SPLITS}
    assert parts[1:] == [[part, str(len(SPLITS[part])), *count(of[part])] for part in SPLITS]
    assert patients[1] == [EVIL, "train", *count([0, 1])] and len(patients) == 1 + 8
    assert [row[2] for row in patients[2:]] == ["1"] * 7
    assert attributes[0][1:] == [["left", "6"], ["right", "3"]] and attributes[1][1:] == [["(empty)", "8"], ["<i>stone</i>", "1"]]
    assert left[1:] == [list(row) for row in REJECTED[1 : MOST_ROWS + 1]]
    assert [h.split("\n")[0].strip() for h in found.headings if h.startswith(("side", "finding"))]


def test_a_store_without_labels_attributes_numbers_or_a_second_cine(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE), np.uint8)
    dark = {"patient": "p", "frames": frames, "beam": np.zeros((SIZE, SIZE), bool)}  # not even a beam
    for n, cine in enumerate(({"patient": "p", "frames": frames}, dark)):
        (tmp_path / f"{n}").mkdir()
        store = filled(tmp_path / f"{n}" / "store", [cine], classes={})
        text, found = draw(store, tmp_path / f"{n}")
        assert found.ids == ["cines", "labels", "numbers", "patients", "left"]  # nothing came with it: no section of attributes
        assert "1 recording of 1 patient, 1 frame" in text and "mm a pixel unknown" in text and "ms unknown" in text
        assert "for pretraining, and for classes" in text and "no classes" in text and "known of 0 of 1 recording" in text
        assert found.tables[0][1:] == [["train", "1", "1", "1", "0"], ["validation", "0", "0", "0", "0"], ["test", "0", "0", "0", "0"]]


def test_a_class_that_is_nowhere_has_no_area(tmp_path):
    ghosts = [
        {"patient": f"p{n}", "frames": np.full((1, SIZE, SIZE), 9 + n, np.uint8), "labels": {0: np.zeros((SIZE, SIZE), np.uint8)}}
        for n in range(3)
    ]
    table = drawn._classes(filled(tmp_path / "store", ghosts, classes={"ghost": [1]}))
    assert table["rows"] == [["ghost", "1", "0", "0", "0", "–"]]


def test_a_large_store_is_shown_by_a_sample(tmp_path, monkeypatch):
    assert SHOWN == 24
    monkeypatch.setattr(drawn, "SHOWN", 6)
    rng, count = np.random.default_rng(0), LOOKED_AT + 50
    content = [
        {"patient": f"p{n:03}", "frames": rng.integers(0, 256, (1, SIZE, SIZE), np.uint8), "attributes": {"n": str(n)}}
        for n in range(count)
    ]
    text, found = draw(filled(tmp_path / "store", content, classes={}), tmp_path)
    captions = re.findall(r"(\d+) · p\d+ · 1 frame", text.split('id="labels"')[0].replace("aria-label", ""))
    chosen = sorted({int(c) for c in captions})
    assert len(chosen) == 6 and chosen[0] == 0 and chosen[-1] == count - 1
    assert np.ptp(np.diff(chosen)) <= 1 and f"middle frame of {LOOKED_AT} recordings" in text
    assert len(found.tables[1]) == 1 + MOST_ROWS and f"The {MOST_ROWS} patients with most recordings, of {count}." in text
    assert len(found.tables[2]) == 1 + 12  # of an attribute the most frequent values
