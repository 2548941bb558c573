"""What a video classifier looks at: occlusion maps of test videos, and where the store knows boxes, how well the maps meet them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uscl import metrics, models
from uscl.data.clips import read_clips, spaced_clips
from uscl.models.darknet3d import reach
from uscl.occlusion_fast import Local, fast_occlusion
from uscl.stages import classify, clips, views
from uscl.stages import run as stage_run
from uscl.train import hosts
from uscl.train.logs import write_csv, write_json
from uscl.types import UserError

CUT = 2  # stages of the network that see little more than the window: run on crops


def make_map(run: stage_run.Run):
    """saliency(variables, clip [T, H, W, 1] at the door, others) -> [H, W] or [T, H, W]: by how much the positive class's log odds fall.

    others: [n, T, H, W, 1] at the door. A hidden block shows theirs at its place, one after the other, and the map is the mean of the n
    maps; with None it shows its surroundings' mean. One gray for all would put light into the black beside the beam, which says more to a
    network than what it hides elsewhere; and where the disease is dark and smooth, its own mean still shows it.
    """
    block, model = run.config.saliency, models.Classifier(encoder=clips.make_encoder(run))
    whole = clips.shape(run)[:3]
    window = tuple(side or most for side, most in zip(block.window, whole, strict=True))
    stride = tuple(step or side for step, side in zip(block.stride, window, strict=True))
    window, stride = (tuple(min(pair) for pair in zip(sides, whole, strict=True)) for sides in (window, stride))
    step, radius = reach(CUT)

    @jax.jit
    def saliency(variables, clip, others=None):
        early = partial(model.apply, variables, k=CUT, method="stem_to")
        rest = partial(model.apply, variables, k=CUT, method="rest_from")

        def odds(features):
            logits = rest(features)
            return logits[:, 1] - logits[:, 0]

        early = [Local(early, (step,) * 3, (radius,) * 3)]

        def fall(shown):
            return fast_occlusion(early, odds, clip, window=window, stride=stride, baseline=shown, chunk=block.chunk)

        return fall("blur") if others is None else jax.lax.map(fall, others).mean(0)

    return saliency


def negatives(run: stage_run.Run) -> np.ndarray | None:
    """Clips [n, T, H, W, 1] at the door of `saliency.others` negative training videos, by the seed; None where nothing of them is shown."""
    config, block = run.config, run.config.saliency
    if block.hidden != "negative":
        return None
    videos = clips.videos_of(config, run.store, "train")
    known = videos.cine[videos.label == 0]
    cines = np.sort(np.random.default_rng(config.seed).choice(known, min(block.others, len(known)), replace=False))
    return middle_clips(run, cines)[1]


def middle_clips(run: stage_run.Run, cines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clip from the middle of each cine: frames [n, T], what the network sees [n, T, H, W, 1], and uint8 images [n, T, H, W, 1]."""
    frame = spaced_clips(run.store, cines, frames=run.config.video.frames, stride=run.config.video.stride)[:, 0]
    images = read_clips(run.store, cines, frame)["image"]
    return frame, np.asarray(clips.at_the_door(views.to_float(jnp.asarray(images)), run.config.model.normalise)), images


def check(config) -> None:
    """UserError where no classifier comes before this stage."""
    if "classify" not in config.stages[: config.stages.index("saliency")]:
        raise UserError(f"config.stages: found {tuple(config.stages)!r}; 'saliency' needs the networks of 'classify' before it")


def boxes_of_cine(store, cine: int) -> np.ndarray:
    """int64 [T, n, 4] (top, left, bottom, right), inclusive; -1 where a box is not to be seen. n is 0 where the store knows none."""
    length = store.length(cine)
    known = np.array(store.truth.get(cine, {}).get("boxes", []), np.int64)
    return known.reshape(length, known.size // (4 * length), 4)


def chosen(run: stage_run.Run) -> np.ndarray:
    """Positive test videos, those that show a box first, as many as are to be shown."""
    videos = clips.videos_of(run.config, run.store, "test")
    positive = videos.cine[videos.label == 1]
    boxed = np.array([(boxes_of_cine(run.store, int(cine)) >= 0).any() for cine in positive], bool)
    return positive[np.argsort(~boxed, kind="stable")][: run.config.saliency.videos]


def boxes_of(run: stage_run.Run, cine: int, frame: np.ndarray) -> list[np.ndarray]:
    """Of each frame of a clip its boxes [n, 4]; what is not to be seen in a frame has none there."""
    known = boxes_of_cine(run.store, cine)
    return [known[t][known[t, :, 0] >= 0] for t in frame]


def run(run: stage_run.Run, carried: dict[str, Any] | None) -> dict[str, Any] | None:
    config, folder = run.config, run.folder / "saliency"
    cines, make, others = chosen(run), make_map(run), negatives(run)
    frame, seen, images = middle_clips(run, cines)
    boxes = [boxes_of(run, int(cine), frame[place]) for place, cine in enumerate(cines)]
    maps, found, told = {}, {}, []
    patients = [run.store.patient(int(cine)) for cine in cines]
    for mode in config.classify.modes:
        network = classify.load_network(run, mode)
        maps[mode] = np.stack([
            np.asarray(make(network, clip, others)) for clip in run.log.progress(seen, len(seen), f"saliency of {mode}")
        ])  # fmt: skip
        each = [metrics.localisation(one, own) for one, own in zip(maps[mode], boxes, strict=True)]
        found[mode] = summary([one._asdict() for one in each], patients, config)
        known = [["" if np.isnan(value) else value for value in one] for one in each]
        told += [[mode, patient, cine, *one] for patient, cine, one in zip(patients, cines, known, strict=True)]
        if hosts.primary() and found[mode]["weighted_iou"]["mean"] is not None:
            run.log.info(f"saliency of {mode}: weighted IoU {found[mode]['weighted_iou']['mean']:.3f} on {len(cines)} videos")
    if hosts.primary():
        folder.mkdir(parents=True, exist_ok=True)
        most = max((len(one) for own in boxes for one in own), default=0)
        packed = np.full((len(cines), config.video.frames, most, 4), -1, np.int32)
        for place, own in enumerate(boxes):
            for t, one in enumerate(own):
                packed[place, t, : len(one)] = one
        np.savez_compressed(
            folder / "maps.npz", image=images[..., 0], boxes=packed, cine=cines, patient=patients,
            **{f"map_{mode}": one.astype(np.float32) for mode, one in maps.items()},
        )  # fmt: skip
        write_csv(folder / "videos.csv", ["mode", "patient", "cine", *metrics.Localisation._fields], told)
    write_json(folder / "localisation.json", found)
    return carried


def summary(each: list[dict[str, float]], patients: list[str], config) -> dict[str, Any]:
    """{measure: {"mean", "ci95"}} over videos, intervals over patients; null without a box."""
    table = {}
    for name in each[0] if each else ():
        interval = metrics.bootstrap_patients(
            np.array([one[name] for one in each], float), patients, repeats=config.evaluate.bootstrap, seed=config.seed
        )
        mean, low, high = (None if np.isnan(value) else float(value) for value in interval)
        table[name] = {"mean": mean, "ci95": [low, high]}
    return table
