"""Last stage: the network on patients it has never seen, image by image and class by class, with intervals over patients."""

import csv
from typing import Any

import numpy as np

from uscl import metrics
from uscl.stages import embedding, finetune, heads, nnunet, regions
from uscl.stages import run as stage_run
from uscl.stages.certainty import Certainty
from uscl.train import hosts
from uscl.train.logs import write_json
from uscl.types import UserError

# Stages that end with a network which segments: `label_maps(run, carried, rows, watch)` and `labelled_rows(run)`, the rows it learnt from.
SEGMENTING = {"finetune": finetune, "nnunet": nnunet}
MEASURES = ("dsc", "dsc_skip_empty", "hd95_mm", "surface_dice", "delta_snr", "signed_snr")


def measure(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray, mm: float, *, tolerance: float) -> dict[str, float]:
    """All measures of one class in one image; the masks are boolean [H, W], the image its grey values, tolerance in mm."""
    absolute, signed = metrics.delta_snr(image, prediction, truth)
    surface = metrics.surface_distances(prediction, truth, mm=mm, tolerance=tolerance)
    return {
        "dsc": metrics.dice(prediction, truth, empty="one"),
        "dsc_skip_empty": metrics.dice(prediction, truth, empty="skip"),
        "hd95_mm": surface.hausdorff95,
        "surface_dice": surface.surface_dice,
        "delta_snr": absolute,
        "signed_snr": signed,
    }


def summarise(
    cases: list[dict[str, Any]], classes: list[str], *, measures: tuple[str, ...] = MEASURES, bootstrap: int, seed: int
) -> dict[str, Any]:
    """{measure: {"mean", "ci95", "per_class": {name: {"mean", "ci95"}}}}: a class's mean over images, the mean over classes above it.

    The mean of an image over its classes is what the patients' bootstrap resamples; a class that has nothing to measure there is left out.
    """
    summary = {}
    for name in measures:
        per_class, table = {}, []
        for label in classes:
            mine = [case for case in cases if case["class"] == label]
            values, patients = np.array([case[name] for case in mine]), [case["patient"] for case in mine]
            per_class[label] = _interval(values, patients, bootstrap, seed)
            table.append(values)
        stacked = np.stack(table)
        known = (~np.isnan(stacked)).sum(0)
        per_image = np.where(known > 0, np.nansum(stacked, 0) / np.maximum(known, 1), np.nan)
        summary[name] = _interval(per_image, patients, bootstrap, seed) | {"per_class": per_class}
    return summary


def _interval(values, patients, repeats: int, seed: int) -> dict[str, Any]:
    mean, low, high = metrics.bootstrap_patients(values, patients, repeats=repeats, seed=seed)
    return {"mean": _number(mean), "ci95": [_number(low), _number(high)]}


def _number(value: float) -> float | None:
    """JSON has no nan: what could not be measured is null."""
    return None if np.isnan(value) else float(value)


def segmenting(stages: tuple[str, ...]):
    """The module of the last stage before the evaluation that ends with a network which segments."""
    names = [name for name in stages[: stages.index("evaluate")] if name in SEGMENTING]
    if not names:
        allowed = " or ".join(map(repr, SEGMENTING))
        raise UserError(f"config.stages: found {tuple(stages)!r}; 'evaluate' needs a network that segments: {allowed} before it")
    return SEGMENTING[names[-1]]


def check(config, store) -> None:
    """Raises UserError for what the evaluation could not do: before hours of pretraining that end with nothing to evaluate."""
    segmenting(tuple(config.stages))
    heads.check(config, store)


def run(run: stage_run.Run, carried: dict[str, Any] | None) -> dict[str, Any] | None:
    config, store, folder = run.config, run.store, run.folder / "evaluate"
    stage = segmenting(tuple(config.stages))
    folder.mkdir(parents=True, exist_ok=True)
    rows = store.rows_of(store.patients("test"))
    patients = store.patients_of_rows(rows)
    certainty, tissues = Certainty(patients), embedding.Regions(store.classes)

    def watch(part):
        certainty.see(part)
        tissues.see(part)

    maps = stage.label_maps(run, carried, rows, watch)
    head, column = config.evaluate.circumference, config.evaluate.circumference_column
    found = heads.look(maps, store, name=head, column=column) if head else None
    of_heads = heads.measures(found) if found else {}
    cases = [
        {"patient": patients[i], "cine": int(maps["cine"][i]), "frame": int(maps["frame"][i]), "class": name}
        | measure(
            maps["image"][i, ..., 0],
            metrics.class_mask(maps["prediction"][i], values),
            metrics.class_mask(maps["label"][i], values),
            float(maps["mm"][i]),
            tolerance=config.evaluate.tolerance,
        )
        | ({key: float(values[i]) for key, values in of_heads.items()} if name == head else {})
        for i in range(len(rows))
        for name, values in store.classes.items()
    ]
    classes = list(store.classes)
    if hosts.primary():
        with open(folder / "cases.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["patient", "cine", "frame", "class", *MEASURES, *of_heads])
            writer.writeheader()
            writer.writerows(cases)
        if found:
            heads.save(found, maps, folder / "heads.csv", patients=patients)
        np.savez_compressed(
            folder / "cases.npz",
            image=maps["image"][..., 0], truth=maps["label"], prediction=maps["prediction"], patient=np.array(patients),
            mean_dsc=np.array([case["dsc"] for case in cases]).reshape(len(rows), len(classes)).mean(1),
        )  # fmt: skip
    write_json(folder / "classes.json", store.classes)
    intended = [store.truth[cine] for cine in sorted(set(maps["cine"].tolist())) if cine in store.truth]
    dynamic_range = config.finetune.speckle.dynamic_range
    write_json(folder / "nakagami.json", regions.speckle(maps, store.classes, intended, dynamic_range=dynamic_range))
    if hosts.primary():
        write_json(folder / "sensitivity.json", regions.sensitivity(maps, store.classes))
        certainty.save(folder)
    if "encoder" in carried["params"]:  # the contrastive models' encoder; the report says that there is none
        embedding.save(run, carried, tissues, folder)
    resampled = {"bootstrap": config.evaluate.bootstrap, "seed": config.seed}
    results = {
        "experiment": config.experiment,
        "scale": config.scale,
        "classes": classes,
        "n_test": len(rows),
        "n_test_patients": len(set(patients)),
        "n_train_labels": len(stage.labelled_rows(run)),
        "metrics": summarise(cases, classes, **resampled) | summarise(cases, [head], measures=tuple(of_heads), **resampled),
    }
    write_json(run.folder / "results.json", results)
    dsc = results["metrics"]["dsc"]
    run.log.info(f"test: mean DSC {dsc['mean']:.3f} on {results['n_test_patients']} patients, {len(rows)} images")
    if found:
        run.log.info(heads.told(found, column))
    return carried
