"""Random views of clips beside the same by kornia's and by torchvision's functions.

Random draws cannot be the same on both sides. A peer first shows what it makes of ours, without noise, and is timed on draws of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uscl.study.bench_clips import clips_of
from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender

KEY = 0


def views_ours(folder: str, library: str, clips: int, frames: int, side: int) -> Contender:
    """`clip_view` under jit. Its answer for the peer: one set of draws, and what they make of the clips without noise."""
    import jax
    import jax.numpy as jnp

    from uscl.augment import clip_time
    from uscl.augment import clips as views
    from uscl.train import mesh as meshes
    from uscl.train import pages

    pages.keep()
    meshes.enable_compilation_cache()
    clip = jnp.asarray(clips_of(clips, frames, side))

    def given(key):
        for_time, for_affine, for_flip, for_jitter, _, _, for_box = jax.random.split(key, 7)  # as `clip_view` splits its key
        affine, (brightness, contrast) = views.draw_affine(for_affine, clips, side, side), views.draw_jitter(for_jitter, clips)
        return {
            "order": clip_time.frame_order(for_time, clips, frames),
            "angle": jnp.degrees(affine.angle),
            "scale": affine.scale,
            "shift": affine.shift[:, ::-1],
            "mirror": jax.random.bernoulli(for_flip, 0.5, (clips,)),
            "brightness": brightness,
            "contrast": contrast,
            "box": views.draw_box(for_box, clips, side, side),
        }

    key = jax.random.key(KEY)
    drawn, seen = jax.jit(lambda key: (given(key), views.clip_view(key, clip, noise=False)))(key)
    view, number = jax.jit(views.clip_view), iter(range(10**9))
    answer = {f"drawn/{name}": np.asarray(value) for name, value in drawn.items()} | {"seen": np.asarray(seen)[..., 0]}

    def once():
        return jax.block_until_ready(view(jax.random.fold_in(key, next(number)), clip))

    return Contender(answer, once, images=clips)


def views_peer(folder: str, library: str, clips: int, frames: int, side: int) -> Contender:
    """The library's functions: on our draws once, then on torch's own, noise and all."""
    import torch

    from uscl.study import torch_clips

    view, clip = torch_clips.PEERS[library], torch.from_numpy(clips_of(clips, frames, side)[..., 0])
    with np.load(Path(folder) / "ours.npz") as ours:
        drawn = {name.removeprefix("drawn/"): torch.from_numpy(ours[name]) for name in ours.files if name.startswith("drawn/")}
    drawn = {name: value.long() if name in ("order", "box") else value for name, value in drawn.items()}
    answer = {"seen": view(clip, drawn, deviation=0.0).numpy()}
    once = lambda: view(clip, torch_clips.draw(clips, frames, side, side))  # noqa: E731
    return Contender(answer, once, images=clips, note={"threads": torch.get_num_threads()})


def clip_views() -> Iterator[dict[str, Any]]:
    """Views of 8 clips of 16 x 112 x 112."""
    here = "uscl.study.bench_clip_views"
    for library in ("kornia", "torchvision"):
        options = {"clips": 8, "frames": 16, "side": 112}
        size, options = "8 x 16 x 112 x 112", options | {"library": library}
        yield compare(f"clip_views {library}", f"{here}:views_ours", f"{here}:views_peer", options, library=library, size=size, goal=1.5)
