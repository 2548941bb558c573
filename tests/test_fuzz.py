"""Broken files by the hundred: each one is read to its end or told in a sentence; nothing crashes, hangs or fills the memory.

The suite takes a sample; `pytest -m slow tests/test_fuzz.py` takes thousands.
"""

import gzip
import hashlib
import importlib.util
import io
import re

import numpy as np
import pydicom
import pytest
from mutants import mutate, nest, put, sealed
from seeds import write_seeds

from uscl.data import recordings, workers
from uscl.types import UserError

GIB = 2**30
MARKS = tuple(name for name in ("via", "coco") if importlib.util.find_spec("uscl.data.annotations"))


def read(task, beat):
    """(file, kind): everything in it. Returns what there was: frames, labels or shapes."""
    path, kind = task
    if kind in MARKS:
        return _read_marks(path, beat)
    if kind == "mask":
        return _read_mask(path)
    n, sizes = 0, set()
    for frame in recordings.read(path).frames:
        beat()
        assert frame.dtype == np.uint8 and frame.ndim == 2
        sizes.add(frame.shape)
        n += 1
    assert len(sizes) <= 1
    return n


def _read_mask(path):
    from uscl.data import items, masks

    with recordings.told(path):
        return len(masks.raster(items.Mask((path,)), 48, 64).keys)


def _read_marks(path, beat):
    from uscl.data import annotations, items, shapes

    drawn = annotations.read(path)
    for name, each in drawn.of.items():
        beat()
        size = drawn.sizes.get(name)
        try:
            shapes.raster(items.Drawing(each, size=size), *(size or (48, 64)))
        except UserError as error:
            raise UserError(f"{path.name}: {error}") from error  # a drawing does not know whose it is
    return len(drawn.of)


def read_mutant(task, beat):
    """(seed file, kind, number, folder): the mutant is made here, so that the parent writes nothing; it stays where its reader dies."""
    source, kind, number, folder = task
    suffix = "".join(source.suffixes)
    path = folder / f"{kind}-{number}{suffix}"
    path.write_bytes(mutate(source.read_bytes(), source.suffixes[-1][1:], number))
    try:
        return read((path, kind), beat)
    finally:
        path.unlink()


def mutants(folder, count):
    """`count` tasks, the formats in turn. Numbers depend on the seed file's name and not on its place, so that new ones move no others."""
    sources = [
        (path, kind) for kind, paths in write_seeds(folder / "seeds").items() for path in paths if kind not in {"via", "coco"} - {*MARKS}
    ]
    for i in range(count):
        path, kind = sources[i % len(sources)]
        yield path, kind, int(hashlib.sha256(f"{path.name} {i // len(sources)}".encode()).hexdigest()[:8], 16), folder


def check(work, tasks, **options):
    """All have a verdict, which is returned. tasks: (what an assertion calls it, what a reason begins with, the task)."""
    tasks, verdicts = list(tasks), {}
    for index, outcome in workers.run(work, (task for *_, task in tasks), **{"workers": 1, "memory": 2 * GIB, **options}):
        where, name, _ = tasks[index]
        if isinstance(outcome, workers.Failure):
            reason = outcome.reason
            assert not re.search(r"crashed|took more|KILL", reason), f"{where}: {reason}"
            assert reason.startswith((name, "needs more than")) and "\n" not in reason, f"{where}: {reason}"
            assert "DOE" not in reason, f"{where} quotes the patient"
        verdicts[index] = outcome
    assert len(verdicts) == len(tasks)
    return verdicts


def check_mutants(folder, count, **options):
    tasks = [(f"mutate({t[0].name}, {t[2]})", f"{t[1]}-{t[2]}", t) for t in mutants(folder, count)]
    verdicts = check(read_mutant, tasks, **options)
    seen = {(tasks[i][2][1], isinstance(verdict, workers.Failure)) for i, verdict in verdicts.items()}
    assert seen == {(kind, broken) for kind, _ in seen for broken in (True, False)}  # neither too gentle nor too rough
    assert [p.name for p in folder.iterdir()] == ["seeds"]


def said(data, **values):
    """A DICOM file that says something else."""
    ds = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()


BROKE = {  # what once crashed, hung, filled the memory or met an error of our own: seed file, kind, how it is broken
    "a tag of 256 MiB": (
        "cine.avi", "video", lambda x: put(put(x, x.index(b"INFO") - 4, "<I", 2**32 - 1), x.index(b"ISFT") + 4, "<I", 2**28)),
    "regions in regions": ("gray.dcm", "dicom", lambda x: nest(x, 5000)),
    "no transfer syntax": ("gray.dcm", "dicom", lambda x: x.replace(b"\2\0\x10\0UI", b"\2\0\x11\0UI")),
    "gray frames under a colour header": (
        "j2k.dcm", "dicom", lambda x: said(x, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)),
    "frames of 8192 x 8192 promised": ("rle.dcm", "dicom", lambda x: said(x, Rows=8192, Columns=8192)),
    "no axis": ("cine.nii", "volume", lambda x: put(x, 40, "<H", 1)),
    "pixels at nan": ("cine.nii", "volume", lambda x: put(x, 108, "<I", 0x7FC00000)),
    "pixels at 3e38": ("cine.nii.gz", "volume", lambda x: gzip.compress(put(gzip.decompress(x) + bytes(2**24), 108, "<I", 0x7F61B1E6))),
    "a mask wider than its file": ("label.png", "mask", lambda x: sealed(put(x, x.index(b"IHDR") + 4, ">I", 65534))),
    "nothing": ("cine.mpeg", "video", lambda x: b""),
}  # fmt: skip


def test_what_broke_once_is_told(tmp_path):
    seeds, tasks = {p.name: p for paths in write_seeds(tmp_path / "seeds").values() for p in paths}, []
    for i, (what, (seed, kind, broken)) in enumerate(BROKE.items()):
        path = tmp_path / f"{i}{seed[seed.index('.') :]}"
        path.write_bytes(broken(seeds[seed].read_bytes()))
        tasks.append((what, path.name, (path, kind)))
    for i, verdict in check(read, tasks).items():
        assert isinstance(verdict, workers.Failure), f"{tasks[i][0]}: {verdict}"


def test_a_sample_of_mutants(tmp_path):
    check_mutants(tmp_path, 156)


@pytest.mark.slow
def test_thousands_of_mutants(tmp_path, request):
    if "slow" not in request.config.option.markexpr:
        pytest.skip("takes minutes; run with -m slow")
    check_mutants(tmp_path, 3000, workers=2)


def test_mutants_depend_on_their_seed_alone(tmp_path):
    for paths in write_seeds(tmp_path).values():
        for path in paths:
            data, suffix = path.read_bytes(), path.suffix[1:]
            assert mutate(data, suffix, 5) == mutate(data, suffix, 5)
            assert len({mutate(data, suffix, seed) for seed in range(20)} - {data}) > 15
