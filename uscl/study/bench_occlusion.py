"""Occlusion saliency of one clip, every pixel of every window, beside captum's and MONAI's."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uscl.study.bench_clips import network, standardised
from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender

WINDOW, STRIDE = (8, 8), (4, 4)  # of rows and columns, in all frames: 15 x 15 places on 64 x 64
OUR_CHUNK, PEER_CHUNK = 16, 16  # clips a call


def occlusion_ours(folder: str, library: str, form: str, frames: int, side: int) -> Contender:
    """The positive class's logit under `occlusion` ("plain") or `fast_occlusion` ("fast"), cut where the stage cuts it."""
    import jax

    from uscl import occlusion, occlusion_fast
    from uscl.models.darknet3d import reach
    from uscl.stages.saliency import CUT

    clip, how = standardised(1, frames, side)[0], {"window": (frames, *WINDOW), "stride": (frames, *STRIDE), "chunk": OUR_CHUNK}
    model, variables, answer = network(standardised(8, frames, side))
    step, radius = reach(CUT)

    def saliency(variables, clip):
        def part(name, k, x):
            return model.apply(variables, x, k, method=name)

        if form == "plain":
            return occlusion.occlusion(lambda x: model.apply(variables, x, train=False)[:, 1], clip, **how)
        early = occlusion_fast.Local(partial(part, "stem_to", CUT), (step,) * 3, (radius,) * 3)
        return occlusion_fast.fast_occlusion([early], lambda x: part("rest_from", CUT, x)[:, 1], clip, **how)

    call, given = jax.jit(saliency), jax.device_put((variables, clip))
    once = lambda: jax.block_until_ready(call(*given))  # noqa: E731
    return Contender(answer | {"map": np.asarray(once())}, once)


def occlusion_peer(folder: str, library: str, form: str, frames: int, side: int) -> Contender:
    """Captum's map is ours. MONAI's is the mean score under the windows that cover a pixel, to be taken from the clip's own."""
    import torch

    from uscl.study import torch_darknet

    model = torch_darknet.Classifier()
    torch_darknet.load(model, np.load(Path(folder) / "ours.npz"))
    model = model.eval()
    image = torch.from_numpy(standardised(1, frames, side)).permute(0, 4, 1, 2, 3).contiguous()
    if library == "captum":
        from captum.attr import Occlusion

        explain, sizes = Occlusion(model), {"sliding_window_shapes": (1, frames, *WINDOW), "strides": (1, frames, *STRIDE)}

        def saliency():
            return explain.attribute(image, **sizes, baselines=0.0, target=1, perturbations_per_eval=PEER_CHUNK)[0, 0, 0]
    else:
        from monai.visualize import OcclusionSensitivity

        explain = OcclusionSensitivity(
            model, mask_size=(frames, *WINDOW), n_batch=PEER_CHUNK, verbose=False, mode=0.0, overlap=0.5, activate=False
        )

        def saliency():
            return model(image)[0, 1] - explain(image)[0][0, 1, 0]

    def once():
        with torch.inference_mode():
            return saliency()

    return Contender({"map": np.asarray(once())}, once, note={"threads": torch.get_num_threads()})


HERE = "uscl.study.bench_occlusion"


def occlusion() -> Iterator[dict[str, Any]]:
    """One clip of 16 x 64 x 64 and the network above; 225 windows of 8 x 8 in all frames. Seconds a map."""
    for library in ("captum", "monai"):
        for form in ("plain", "fast"):
            options = {"library": library, "form": form, "frames": 16, "side": 64}
            yield compare(
                f"occlusion {form} {library}", f"{HERE}:occlusion_ours", f"{HERE}:occlusion_peer", options, library=library,
                size="225 windows on 16 x 64 x 64", goal=1.5, repetitions=7,
            )  # fmt: skip
