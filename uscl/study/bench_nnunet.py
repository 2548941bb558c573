"""nnU-Net's inference on an image of 768 x 1024 beside the same in torch: in one piece, and in overlapping tiles of 192 x 192."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uscl.models.plan import Plan, make_plan
from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender

IMAGE, CLASSES, CASES = (768, 1024), 4, 411
WHOLE, TILE = (768, 1024), (192, 192)


def plan_of(patch: tuple[int, int], base: int) -> Plan:
    """What is planned for 411 cases of the patch's size: 8 stages for 768 x 1024, 6 for 192 x 192."""
    return make_plan(np.tile(patch, (CASES, 1)), kept=np.ones(CASES), values=CLASSES, base=base)


def image_of(size: tuple[int, int]) -> np.ndarray:
    """z-scores float32 [H, W, 1]."""
    return np.random.default_rng(0).standard_normal((*size, 1)).astype(np.float32)


def ours(folder: str, size: tuple[int, int], patch: tuple[int, int], batch: int, base: int = 32) -> Contender:
    """`make_logits` around `NNUNet`, as the stages use it, in float32 and without mirrors."""
    import jax

    from uscl import models
    from uscl.models.nnunet import NNUNet
    from uscl.models.tiles import make_logits
    from uscl.train import mesh as meshes

    meshes.enable_compilation_cache()
    network = NNUNet.of(plan_of(patch, base), CLASSES)
    params = jax.device_put(models.initialise(network, 0, (*patch, 1))["params"])
    logits = make_logits(lambda x, p: network.apply({"params": p}, x, train=False)[0], patch=patch, mirror=(), batch=batch)
    image = image_of(size)
    answer = {
        "/".join(part.key for part in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path({"params": params})
    }
    answer["logits"] = logits(image, params)
    note = {"parameters": models.parameter_count(params)}
    return Contender(answer, lambda: logits(image, params), images=1, note=note)


def twin(folder: str, size: tuple[int, int], patch: tuple[int, int], batch: int, base: int = 32) -> Contender:
    """The same network in torch with our weights, channels_last, and a sliding window of its own."""
    import torch

    from uscl.study import torch_nnunet

    model = torch_nnunet.NNUNet(plan_of(patch, base), CLASSES)
    torch_nnunet.load(model, np.load(Path(folder) / "ours.npz"))
    model = model.to(memory_format=torch.channels_last).eval()
    image = torch.from_numpy(image_of(size)).permute(2, 0, 1)
    once = lambda: torch_nnunet.predict(model, image, patch, batch)  # noqa: E731
    note = {"parameters": sum(p.numel() for p in model.parameters()), "threads": torch.get_num_threads()}
    return Contender({"logits": once().permute(1, 2, 0).numpy()}, once, images=1, note=note)


def nnunet_inference() -> Iterator[dict[str, Any]]:
    """One image of 768 x 1024 in one piece, as a plan for such images has it; and by a plan for 192 x 192, 70 tiles, 10 at a time.

    Few repetitions, for a unit of work takes seconds. Logits of random weights agree to 1e-3 of the largest.
    """
    here = "uscl.study.bench_nnunet"
    for patch, batch, word, repetitions in ((WHOLE, 1, "whole", 3), (TILE, 10, "tiles", 2)):
        options = {"size": IMAGE, "patch": patch, "batch": batch}
        size = f"{IMAGE[0]} x {IMAGE[1]} by {patch[0]} x {patch[1]}"
        yield compare(
            f"nnunet_inference {word}", f"{here}:ours", f"{here}:twin", options, library="torch", size=size, tolerance=1e-3,
            repetitions=repetitions,
        )  # fmt: skip
