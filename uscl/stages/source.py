"""The data of a run: the store the configuration names, or the embedded phantom, made once into the run's own folder."""

from pathlib import Path

import numpy as np

from uscl.data.cross import cross
from uscl.data.loader import read_cines, read_labelled
from uscl.data.planes import known_columns, labelled_planes
from uscl.data.splits import fold
from uscl.data.store import Store
from uscl.data.videos import labelled_videos
from uscl.data.writer import StoreWriter
from uscl.phantom import fetal, kidney, lung
from uscl.train.logs import Log, write_json
from uscl.types import UserError

SHOWN = 6  # cines on the report's contact strip


def open_store(config, folder: Path, log: Log) -> Store:
    """Opens `config.data.store`, or makes the phantom that the rest of the block describes.

    `config.data.fold` then picks who validates, or with `config.data.cross` who tests.
    """
    store = Store.open(config.data.store or _phantom(config.data, folder / "data", log))
    if config.data.cross:
        block = config.data
        store.splits = cross(strata(config, store), store.cines.patient.tolist(), parts=block.cross, fold=block.fold, seed=block.split_seed)
    elif config.data.fold >= 0:
        store.splits = fold(store.splits, config.data.fold)
    return store


def strata(config, store: Store) -> dict[str, tuple]:
    """{patient: (has labelled frames, classes of the labelled videos and stills)} of all who have any; the same whatever the stages are."""
    block, found = config.classify, {name: [True] for name in store.patients_of_rows(np.arange(len(store.labelled)))}
    column, everyone, told = store.attributes.get(block.column, ()), np.unique(store.cines.patient).tolist(), []
    if np.isin(column, block.negative).any():
        videos = labelled_videos(
            store, everyone, column=block.column, negative=block.negative, ignore=block.ignore, shortest=block.shortest
        )  # fmt: skip
        told.append(videos)
    if known_columns(store, config.planes.column):
        told.append(labelled_planes(store, everyone, column=config.planes.column, ignore=config.planes.ignore))
    for labelled in told:
        for patient, label in sorted(set(zip(labelled.patient.tolist(), labelled.label.tolist(), strict=True))):
            found.setdefault(patient, [False]).append(label)
    return {name: tuple(classes) for name, classes in found.items()}


def _phantom(data, path: Path, log: Log) -> Path:
    if not path.exists():
        log.info(f"phantom: {data.patients} patients, {data.frames} frames of {data.size} x {data.size} each, seed {data.seed}")
        whole = {"patients": data.patients, "frames": data.frames, "size": data.size, "seed": data.seed}
        split = {"split_seed": data.split_seed, "validation": data.validation, "test": data.test}
        if data.phantom == "lung":
            make_lungs(path, **whole, **split, scanners=data.scanners, lungs=data.lungs, log=log)
        elif data.phantom == "fetal":
            make_fetuses(path, **whole, **split, cines=data.cines, log=log)
        else:
            make_phantom(path, **whole, **split, labelled=data.labelled, log=log)
    return path


def check_labels(store: Store, stages: list[str]) -> None:
    """Raises UserError where `stages` need labelled frames and the store has none: before hours of pretraining, not after."""
    if stages and not len(store.labelled):
        raise UserError(
            f"{store.path}: the store has no labelled frame, which config.stages {' and '.join(map(repr, stages))} need; prepare it again "
            """with --annotations, or pretrain alone with --config.stages="('encoder', 'decoder')\""""
        )


def make_phantom(path: Path, *, patients, frames, size, labelled, seed, split_seed, validation, test, log: Log) -> None:
    """Writes the kidney phantom as a store; of each cine `labelled` frames, drawn from its middle, keep their labels."""
    origin = f"kidney phantom, seed {seed}"
    with StoreWriter(path, size=size, classes=kidney.CLASSES, origin=origin, seed=split_seed, validation=validation, test=test) as writer:
        for number, cine in enumerate(log.progress(kidney.make(seed, patients=patients, frames=frames, size=size), patients, "phantom")):
            rng = np.random.default_rng([seed, number])
            middle = np.arange(frames // 10, frames - frames // 10)
            kept = np.sort(rng.choice(middle, size=min(labelled, len(middle)), replace=False))
            writer.add(
                patient=cine["patient"], frames=cine["frames"], labels=cine["labels"], labelled_frames=kept.tolist(),
                mm_per_pixel=cine["mm_per_pixel"], frame_ms=cine["frame_ms"], source=origin, truth=cine["truth"],
            )  # fmt: skip


def make_lungs(path: Path, *, patients, frames, size, scanners="one", lungs="two", seed, split_seed, validation, test, log: Log) -> None:
    """Writes the lung phantom as a store: no label maps, but every video's class in attributes.csv and its boxes in truth.json."""
    origin = f"lung phantom, seed {seed}"
    with StoreWriter(path, size=size, classes={}, origin=origin, seed=split_seed, validation=validation, test=test) as writer:
        made = lung.make(seed, patients=patients, frames=frames, size=size, scanners=scanners, lungs=lungs)
        for cine in log.progress(made, patients, "phantom"):
            writer.add(
                patient=cine["patient"], frames=cine["frames"], mm_per_pixel=cine["mm_per_pixel"], frame_ms=cine["frame_ms"],
                source=origin, attributes=cine["attributes"], truth=cine["truth"] | {"boxes": cine["boxes"].tolist()},
            )  # fmt: skip


def make_fetuses(path: Path, *, patients, cines, frames, size, seed, split_seed, validation, test, log: Log) -> None:
    """Writes the fetal phantom as a store: `cines` sweeps of each patient, and a still of each standard plane that they meet.

    A sweep says nothing of what it shows. A still, the middle frame of its plane's stop, has attributes "plane" and "anatomy"; that of a
    head has its label map, with class "head", and "head_circumference_mm".
    """
    origin = f"fetal phantom, seed {seed}"
    with StoreWriter(path, size=size, classes=fetal.CLASSES, origin=origin, seed=split_seed, validation=validation, test=test) as writer:
        made = fetal.make(seed, patients=patients, cines=cines, frames=frames, size=size)
        for cine in log.progress(made, patients * cines, "phantom"):
            whole = {"patient": cine["patient"], "mm_per_pixel": cine["mm_per_pixel"], "frame_ms": cine["frame_ms"], "source": origin}
            writer.add(frames=cine["frames"], truth=cine["truth"], **whole)
            for t in stops(cine["planes"]):
                plane = cine["planes"][t]
                anatomy, length = fetal.ANATOMIES[fetal.COARSE[plane]], cine["truth"]["head_circumference_mm"][t]
                about, labels = {"plane": fetal.PLANES[plane], "anatomy": anatomy}, None
                if anatomy == "head":
                    about["head_circumference_mm"], labels = f"{length:.2f}", cine["labels"][t][None]
                writer.add(frames=cine["frames"][t][None], labels=labels, attributes=about, **whole)


def stops(planes: np.ndarray) -> list[int]:
    """The middle frame of each stretch of equal planes [T] that are not -1; of two middles the later one."""
    edges = [0, *(np.flatnonzero(np.diff(planes)) + 1), len(planes)]
    return [int(a + b) // 2 for a, b in zip(edges[:-1], edges[1:], strict=True) if planes[a] >= 0]


def save_sample(store: Store, folder: Path) -> None:
    """Keeps a few training frames for the report, labelled ones if there are any, and the counts."""
    parts = {
        part: {
            "patients": len(store.patients(part)),
            "cines": len(store.cines_of(store.patients(part))),
            "frames": int(sum(store.length(c) for c in store.cines_of(store.patients(part)))),
            "labelled": len(store.rows_of(store.patients(part))),
        }
        for part in ("train", "validation", "test")
    }
    write_json(folder / "data.json", {"origin": store.origin, "size": store.size, "classes": store.classes, "splits": parts})
    rows, cines = store.rows_of(store.patients("train")), store.cines_of(store.patients("train"))
    if len(rows):
        sample = read_labelled(store, _spaced(rows))
    else:
        sample = read_cines(store, _spaced(cines), store.cines.frames[_spaced(cines)] // 2)
    kept = {name: sample[name] for name in ("label", "cine", "frame") if name in sample}
    np.savez_compressed(folder / "data.npz", frames=sample["image"][..., 0], **kept)


def _spaced(x: np.ndarray) -> np.ndarray:
    return x[np.unique(np.linspace(0, len(x) - 1, SHOWN).astype(int))]
