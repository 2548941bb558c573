"""The data of a run: the store the configuration names, or the embedded phantom, made once into the run's own folder."""

from pathlib import Path

import numpy as np

from uscl.data.loader import read_labelled
from uscl.data.store import Store, StoreWriter
from uscl.phantom import kidney
from uscl.train.logs import Log, write_json

SHOWN = 6  # cines on the report's contact strip


def open_store(config, folder: Path, log: Log) -> Store:
    """Opens `config.data.store`, or makes the phantom that the rest of the block describes."""
    data = config.data
    if data.store:
        return Store.open(data.store)
    path = folder / "data"
    if not path.exists():
        log.info(f"phantom: {data.patients} patients, {data.frames} frames of {data.size} x {data.size} each, seed {data.seed}")
        make_phantom(
            path, patients=data.patients, frames=data.frames, size=data.size, labelled=data.labelled, seed=data.seed,
            split_seed=data.split_seed, validation=data.validation, test=data.test, log=log,
        )  # fmt: skip
    return Store.open(path)


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


def save_sample(store: Store, folder: Path) -> None:
    """Keeps a few labelled frames, a few frames in time order and the counts for the report."""
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
    rows = store.rows_of(store.patients("train"))
    shown = rows[np.unique(np.linspace(0, len(rows) - 1, SHOWN).astype(int))]
    sample = read_labelled(store, shown)
    np.savez_compressed(
        folder / "data.npz", frames=sample["image"][..., 0], label=sample["label"], cine=sample["cine"], frame=sample["frame"]
    )
