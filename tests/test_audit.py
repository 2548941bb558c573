"""Leaks: what is the same on two sides of a split is found, what only looks like it is not, on made and on real pictures."""
import hashlib
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, shift, zoom

from uscl.data import audit, recordings
from uscl.data.fit import fit
from uscl.data.likeness import ALIKE, detail, likeness

SIZE = 96
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
BEAM = (np.abs(COLUMNS - SIZE / 2) < 0.6 * (ROWS + 12)) & (np.hypot(COLUMNS - SIZE / 2, ROWS + 12) < 104)


def picture(seed, size=SIZE):
    """Tissue of coarse and fine grain below one sharp beam, the same for every seed."""
    rng = np.random.default_rng(seed)
    grain = sum(weight * gaussian_filter(rng.normal(size=(size, size)), sigma) * sigma for sigma, weight in ((1.2, 1), (3, 1), (9, 1.5)))
    return np.where(BEAM, np.clip(70 + 45 * grain, 4, 255), 0).astype(np.uint8)


def loop(seed, frames=6):
    """A cine that drifts and changes."""
    first, other = picture(seed).astype(float), picture(seed + 1000)
    return [(BEAM * np.clip(shift(first, (0, t / 2), order=1) + 0.1 * t * other, 0, 255)).astype(np.uint8) for t in range(frames)]


def jpeg(frame, quality):
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def moved(frame, down, right):
    return shift(frame, (down, right), order=0)


def zoomed(frame, by):
    """About its middle, cropped or with a border of 0."""
    big = zoom(frame, by, order=1)
    cut, pad = max(0, len(big) - len(frame)) // 2, max(0, len(frame) - len(big))
    return np.pad(big[cut : cut + len(frame), cut : cut + len(frame)], [(pad // 2, pad - pad // 2)] * 2)


def overlaid(frame):
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).text((3, 3), "12:34", fill=255)
    return np.asarray(image)


CHANGES = {
    "jpeg 75": lambda f: jpeg(f, 75),
    "jpeg 95": lambda f: jpeg(f, 95),
    "brighter": lambda f: np.clip(f * 1.05, 0, 255).astype(np.uint8),
    "darker": lambda f: (f * 0.95).astype(np.uint8),
    "lifted": lambda f: np.clip(f.astype(int) + 13, 0, 255).astype(np.uint8),
    "down 2": lambda f: moved(f, 2, 0),
    "up and right": lambda f: moved(f, -1, 1),
    "larger": lambda f: zoomed(f, 1.03),
    "smaller": lambda f: zoomed(f, 0.96),
    "text": overlaid,
    "several": lambda f: jpeg(np.clip(moved(zoomed(f, 1.03), 1, 1) * 1.05, 0, 255).astype(np.uint8), 85),
}


def found(cines, parts, patients=None):
    """leaks() of cines given as lists of frames; a patient each unless said otherwise."""
    frames = np.array([frame for cine in cines for frame in cine])
    patients = patients or [f"p{n}" for n in range(len(cines))]
    owner = np.repeat(np.arange(len(cines)), [len(cine) for cine in cines])
    prints = np.stack([audit.fingerprint(frame) for frame in frames])
    asked = []

    def read(places):
        asked.append(len(places))
        return frames[places]

    leaks = audit.leaks(prints, owner, patients, dict(zip(patients, parts, strict=True)), read)
    assert max(asked, default=0) <= 1024  # pictures are looked at a few at a time
    return [(x.kind, x.cine_a, x.frame_a, x.cine_b, x.frame_b) for x in leaks]


# ---- fingerprints ----------------------------------------------------------------------------------------------------
def test_a_fingerprint_is_a_hash_and_bits():
    frame = picture(0)
    first = audit.fingerprint(frame)
    assert first.shape == (40,) and first.dtype == np.uint8
    assert first[:8].tobytes() == hashlib.blake2b(frame.tobytes(), digest_size=8).digest()
    lifted = audit.fingerprint(frame // 2 + 20)
    np.testing.assert_array_equal(lifted[8:], audit.fingerprint(frame // 2)[8:])
    assert (lifted[:8] != first[:8]).any()
    np.testing.assert_array_equal(first, audit.fingerprint(np.asfortranarray(frame)))  # of the pixels, not of their layout
    bits = np.unpackbits(np.stack([audit.fingerprint(picture(seed))[8:] for seed in range(40)]), axis=1)
    apart = (bits[:, None] != bits).sum(2)[np.triu_indices(40, 1)]
    assert apart.mean() == pytest.approx(128, abs=20) and apart.min() > audit.NEAR


@pytest.mark.parametrize("blank", [np.zeros((64, 64), np.uint8), np.full((64, 64), 90, np.uint8), np.eye(64, dtype=np.uint8)])
def test_no_picture_no_bits(blank):
    assert not audit.fingerprint(blank)[8:].any()
    assert found([[blank, blank], [blank, blank], [blank]], ["train", "test", "validation"]) == []


# ---- what is found -----------------------------------------------------------------------------------------------------
def test_the_same_cine_and_the_same_frame():
    a, b, c = loop(1), loop(2), loop(3)
    black = [np.zeros((SIZE, SIZE), np.uint8)]
    cines = [a, b[:3] + black + c[4:5], [x.copy() for x in a], black + c, [a[2]], b[::-1]]
    assert found(cines, ["train", "train", "test", "test", "validation", "train"]) == [
        ("cine", 0, 0, 2, 0),
        ("frame", 0, 2, 4, 0),
        ("frame", 1, 4, 3, 5),  # counted with the black frame before it
    ]


def test_the_same_side_is_no_leak():
    a = loop(1)
    assert found([a, a, [jpeg(a[0], 80)]], ["train", "train", "train"]) == []
    assert found([a, [jpeg(a[0], 80)], loop(2)], ["train", "train", "test"]) == []
    assert found([a, a], ["fold 0", "fold 1"]) == [("cine", 0, 0, 1, 0)]
    assert found([a, a, [jpeg(a[0], 80)]], ["train", "train", "test"], ["p", "p", "q"]) == [("near", 0, 0, 2, 0), ("near", 1, 0, 2, 0)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_still_of_a_cine_is_found(change):
    """Among 24 cines below the same beam. They drift by half a pixel a frame, so a still that was moved by one fits another frame."""
    cines = [loop(seed) for seed in range(24)] + [[CHANGES[change](loop(7)[3])]]
    (leak,) = found(cines, ["train"] * 24 + ["test"])
    assert leak[:2] == ("near", 7) and abs(leak[2] - 3) <= 2 and leak[3:] == (24, 0)


def test_different_pictures_below_one_beam_are_not_alike():
    details = [detail(picture(seed)) for seed in range(30)]
    assert max(likeness(a, b) for n, a in enumerate(details) for b in details[:n]) < ALIKE - 0.2
    assert (details[0][~BEAM] != 0).mean() < 0.005 and (details[0][BEAM] != 0).mean() > 0.5  # not even the outline


def test_likeness_is_a_correlation():
    """The best of all whole shifts, one by one; zooms can only add to it."""
    a, b = detail(picture(1)), detail(moved(picture(1), 2, -1))
    best = 0
    for down in range(-6, 7):
        for right in range(-6, 7):
            other = np.roll(b, (down, right), (0, 1))
            inside = np.pad(np.ones((84, 84)), 6) * (a != 0) * (other != 0) > 0
            x, y = a[inside], other[inside]
            best = max(best, x @ y / np.sqrt(x @ x * (y @ y)))
    assert best > 0.9 and likeness(a, b) == pytest.approx(best, abs=0.03)
    assert likeness(a, a) == pytest.approx(1, abs=1e-5)
    assert likeness(a, np.zeros_like(a)) == 0
    few = a * (np.arange(SIZE) < 8)
    assert likeness(few, few) == 0  # a tenth of the picture is the least that proves anything


def test_one_picture_in_many_cines_names_each_once():
    title = picture(5)
    cines = [[*loop(seed, 2), title] for seed in range(10, 40)]
    parts = ["train", "train", "test"] * 10
    leaks = found(cines, parts)
    assert [leak[0] for leak in leaks] == ["frame"] * 29
    named = {n for leak in leaks for n in (leak[1], leak[3])}
    assert named == set(range(30)) and all(parts[leak[1]] != parts[leak[3]] for leak in leaks)


def leaks_of_bits(prints, first_of_test, monkeypatch):
    """Pairs of places, of cines of 20 frames, the pixels being believed."""
    monkeypatch.setattr(audit, "detail", lambda frame: frame)
    monkeypatch.setattr(audit, "likeness", lambda a, b: 1.0)
    owner = np.arange(len(prints)) // 20
    patients = [f"p{n}" for n in range(owner[-1] + 1)]
    part = {name: "test" if n >= first_of_test else "train" for n, name in enumerate(patients)}
    leaks = audit.leaks(prints, owner, patients, part, lambda places: np.zeros((len(places), 1, 1), np.uint8))
    return {(20 * x.cine_a + x.frame_a, 20 * x.cine_b + x.frame_b) for x in leaks}


def test_keys_find_in_many_frames_what_every_pair_would(monkeypatch):
    """20,000 prints of random bits; 200 copies of which a tenth of the bits flipped."""
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 256, (20_000, 40), np.uint8)
    assert len(prints) > audit.EXHAUSTIVE
    source = np.arange(200) * 90 + 7
    prints[19_800:, 8:] = prints[source, 8:] ^ np.packbits(rng.random((200, 256)) < 0.1, axis=1)
    found = leaks_of_bits(prints, 990, monkeypatch)
    assert found <= {(n, 19_800 + k) for k, n in enumerate(source.tolist())} and len(found) >= 190


def test_of_frames_with_one_key_the_nearest_is_named(monkeypatch):
    """A cine's frames share the bits that keys are made of; the still is its fourteenth but for two bits."""
    monkeypatch.setattr(audit, "EXHAUSTIVE", 0)
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 256, (40, 40), np.uint8)
    prints[:20, 8:] = prints[0, 8:]
    prints[:20, 20:] ^= np.packbits(rng.random((20, 160)) < 0.15, axis=1)
    prints[20, 8:] = prints[13, 8:]
    prints[20, 39] ^= 3
    prints[21:, 8:] = 0
    assert leaks_of_bits(prints, 1, monkeypatch) == {(13, 20)}


def test_nothing_to_look_at():
    assert audit.leaks(np.zeros((0, 40), np.uint8), np.zeros(0, int), [], {}, lambda places: None) == []


def test_the_message_names_three_and_says_what_to_do():
    leaks = [audit.Leak("cine", 0, 0, 1, 0), *(audit.Leak("near", 0, 4, n, 7) for n in (2, 3, 4))]
    names = ["a.mp4", "b.mp4", "c.png", "d.png", "e.png"]
    told = audit.message(leaks, names)
    first = "a.mp4 and b.mp4 (the same cine); a.mp4 and c.png"
    assert told.startswith(f"4 pairs of recordings show the same on two sides of the split: {first}")
    assert "(nearly the same frame: 4 and 7)" in told and "e.png" not in told and "and 1 more" in told
    assert "--patients" in told and "drop one" in told and "\n" not in told
    alone = audit.message(leaks[:1], names)
    assert alone.startswith("1 pair of recordings shows") and "more" not in alone


# ---- real pictures -----------------------------------------------------------------------------------------------------
def stills(folder):
    files = sorted(folder.glob("**/images/*.png"))
    frames = [fit(next(recordings.read(path).frames), SIZE)[0] for path in files]
    return [path.stem for path in files], frames


def test_the_twice_exported_pictures_of_usgra(data_root):
    """Looked at by eye: six pictures stand in the set twice, the second time enlarged by 4 % and cropped. Nothing else is flagged."""
    names, frames = stills(data_root / "usgra_seg")
    leaks = found([[frame] for frame in frames], names)
    pairs = {tuple(sorted((names[x[1]], names[x[3]]))) for x in leaks}
    twice = {("0012", "0073"), ("0028", "0120"), ("0029", "0125"), ("0036", "0146"), ("0037", "0147"), ("0009", "0065")}
    assert pairs == twice


def test_fetal_heads_are_all_different_and_found_again(data_root):
    names, frames = stills(data_root / "hc18")
    frames = frames[::2]
    copies = [CHANGES[change](frame) for frame, change in zip(frames, list(CHANGES) * 20, strict=False)]
    leaks = found([[frame] for frame in frames + copies], ["train"] * len(frames) + ["test"] * len(frames))
    hits = {(x[1], x[3]) for x in leaks}
    right = {(n, n + len(frames)) for n in range(len(frames))}
    assert hits <= right and len(hits) >= 0.95 * len(right), (len(hits), len(right))
    assert re.match(r"^\d+ pairs", audit.message([audit.Leak(*x) for x in leaks], names * 2))
