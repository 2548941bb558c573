"""Clip networks, as the stages of the lung paper share them: encoder, door, features of whole videos, and a look at what they know."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from uscl import metrics, models
from uscl.augment import clip_view, normalise
from uscl.data.clips import read_clips, spaced_clips
from uscl.data.videos import Videos, labelled_videos
from uscl.models.darknet3d import PLANS
from uscl.stages import run as stage_run
from uscl.stages.features import make_batched


def make_encoder(run: stage_run.Run) -> models.ClipEncoder:
    block = run.config.model
    return models.ClipEncoder(**PLANS[run.config.video.plan], momentum=block.bn_momentum, dtype=block.dtype, remat=block.remat)


def shape(run: stage_run.Run) -> tuple[int, ...]:
    """Of a clip: [T, H, W, C]."""
    return run.config.video.frames, run.store.size, run.store.size, 1


def make_view(block, *, temporal: bool) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """view(key, clip) as a `views` block of the configuration describes it; temporal False leaves the order of the frames alone."""
    how = {name: dict(part) if hasattr(part, "items") else part for name, part in block.items() if name != "temporal"}
    return lambda key, clip: clip_view(key, clip, temporal=temporal and dict(block.temporal), **how)


def at_the_door(image: jax.Array, kind: str) -> jax.Array:
    """Clips [N, T, H, W, C], normalised each as a whole, so that its frames keep their brightness among each other."""
    n, t, h, w, c = image.shape
    return normalise(image.reshape(n, t * h, w, c), kind).reshape(image.shape)


def make_features(run: stage_run.Run, apply: Callable[[Any, jax.Array], jax.Array]) -> Callable[..., np.ndarray]:
    """features(variables, cines, count=1) -> float32 [n, count, D]: `apply(variables, clips)` on `count` clips spread over each video;
    as `make_batched`.
    """
    config, store = run.config, run.store
    batched = make_batched(run, apply, at_the_door, batch=config.classify.batch, key="config.classify.batch")

    def features(variables, cines, count: int = 1) -> np.ndarray:
        frame = spaced_clips(store, cines, frames=config.video.frames, stride=config.video.stride, count=count)
        cine, frame = np.repeat(cines, count), frame.reshape(-1, config.video.frames)
        found = batched(variables, lambda rows: read_clips(store, cine[rows], frame[rows])["image"], len(cine))
        return found.reshape(len(cines), count, -1)

    return features


def videos_of(config, store, part: str) -> Videos:
    """The labelled videos of the patients of 'train', 'validation' or 'test'."""
    block = config.classify
    return labelled_videos(
        store, store.patients(part), column=block.column, negative=block.negative, ignore=block.ignore, shortest=block.shortest
    )


def make_look(run: stage_run.Run, encoder) -> Callable | None:
    """look(state) -> (AUC of the nearest neighbours, {"linear_auc"}): what the features of the validation videos say of their labels.

    The neighbours and the probe learn from the training videos' labels; the encoder never sees one. None where the store has too few.
    """
    block = run.config.classify
    if block.column not in run.store.attributes:
        return None
    train, watched = (videos_of(run.config, run.store, part) for part in ("train", "validation"))
    if min(len(np.unique(train.label)), len(np.unique(watched.label))) < 2:
        return None
    features = make_features(run, lambda variables, clips: encoder.apply(variables, clips, train=False))

    def look(state):
        variables = {kind: getattr(state, kind)["encoder"] for kind in ("params", "batch_stats")}
        known, asked = (features(variables, videos.cine)[:, 0] for videos in (train, watched))
        near = metrics.knn_probe(known, train.label, test=asked, k=min(20, len(known)), classes=2)[:, 1]
        line = metrics.linear_probe(known, train.label, test=asked, classes=2)[:, 1]
        return metrics.auc(watched.label, near), {"linear_auc": metrics.auc(watched.label, line)}

    return look


def looked_at(course: stage_run.Course, every: int) -> stage_run.Course:
    """The course with a look at every so many updates, which chooses nothing: the labels must not pick what is called unsupervised."""
    return replace(course, validate_every=every, keep="last")
