"""A training step of the lung paper's clip network beside the same network in torch: forward, cross-entropy, backward, Adam."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender, seconds_of

RATE = 3e-4


def clips_of(clips: int, frames: int, side: int) -> np.ndarray:
    """float32 [N, T, S, S, 1] in [0.1, 0.6]: no change of brightness saturates them, so that the order of changes makes no difference."""
    from scipy import ndimage

    clip = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((clips, frames, side, side)), (0, 1, 2, 2))
    clip = (clip - clip.min()) / np.ptp(clip)
    return (0.1 + 0.5 * clip).astype(np.float32)[..., None]


def standardised(clips: int, frames: int, side: int) -> np.ndarray:
    clip = clips_of(clips, frames, side)
    return (clip - clip.mean()) / clip.std()


def labels_of(clips: int) -> np.ndarray:
    return np.arange(clips, dtype=np.int32) % 2


def network(clip: np.ndarray):
    """The classifier; its variables, whose running statistics are those of `clip`; and the same as arrays by name."""
    import jax

    from uscl import models
    from uscl.train import mesh as meshes
    from uscl.train import pages

    pages.keep()  # as a run does
    meshes.enable_compilation_cache()
    measuring = models.Classifier(encoder=models.ClipEncoder(momentum=0.0))
    variables = models.initialise(measuring, 0, clip.shape[1:])
    _, seen = jax.jit(partial(measuring.apply, train=True, mutable=["batch_stats"]))(variables, clip)
    variables = jax.device_get({"params": variables["params"], "batch_stats": seen["batch_stats"]})
    return models.Classifier(encoder=models.ClipEncoder()), variables, flat(variables)


def flat(tree) -> dict[str, np.ndarray]:
    import jax

    return {"/".join(p.key for p in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def step_ours(folder: str, clips: int, frames: int, side: int) -> Contender:
    """`make_step` with the classifier and cross-entropy, as the stage that trains it whole."""
    import jax
    import optax

    from uscl import models
    from uscl.train import mesh as meshes
    from uscl.train import state, step

    clip, mesh, optimizer, weights = standardised(clips, frames, side), meshes.make_mesh(1), optax.adam(RATE), {"cross_entropy": 1.0}
    model, variables, answer = network(clip)
    data = meshes.put_batch(mesh, {"image": clip, "target": labels_of(clips)})
    params, batch_stats = meshes.put_replicated(mesh, (variables["params"], variables["batch_stats"]))

    def forward(params, batch_stats, batch):
        logits, new = model.apply({"params": params, "batch_stats": batch_stats}, batch["image"], train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"]).mean(), (logits, new["batch_stats"])

    def loss_fn(params, batch_stats, batch, key):
        loss, (_, new) = forward(params, batch_stats, batch)
        return {"cross_entropy": loss}, (new, {})

    (_, (logits, new)), gradient = jax.jit(jax.value_and_grad(forward, has_aux=True))(params, batch_stats, data)
    leaves = flat({"params": gradient})
    answer |= {"logits": np.asarray(logits), "gradient": np.concatenate([leaves[name].ravel() for name in sorted(leaves)])}
    answer |= flat({"after": new})
    held = [meshes.put_replicated(mesh, state.create(params, batch_stats, optimizer, terms=weights, seed=0))]
    update = step.make_step(loss_fn, optimizer, mesh, weights=weights)

    def once():
        held[0], metrics = update(held[0], data)
        return jax.block_until_ready((held[0], metrics))[1]

    note = {"parameters": models.parameter_count(params), "third_loss": [float(once()["loss"]) for _ in range(3)][-1]}
    return Contender(answer, once, images=clips, note=note)


def step_twin(folder: str, clips: int, frames: int, side: int) -> Contender:
    """The same in torch, Adam in its fused form. Of channels_last_3d and torch's own layout the one that is faster here is timed.

    Its answer is computed in float64: in float32 torch's gradient of this deep a network is a percent off, ours a tenth of a per mille.
    """
    import torch

    from uscl.study import torch_darknet

    image = torch.from_numpy(standardised(clips, frames, side)).permute(0, 4, 1, 2, 3)
    ours, label = np.load(Path(folder) / "ours.npz"), torch.from_numpy(labels_of(clips).astype(np.int64))

    def make(layout, dtype=torch.float32):
        model = torch_darknet.Classifier()
        names = torch_darknet.load(model, ours)
        model, seen = model.to(dtype, memory_format=layout).train(), image.to(dtype).contiguous(memory_format=layout)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

        def gradient():
            optimizer.zero_grad(set_to_none=True)
            logits = model(seen)
            loss = torch.nn.functional.cross_entropy(logits, label)
            loss.backward()
            return logits.detach().numpy(), loss.detach().numpy()

        def update():
            _, loss = gradient()
            optimizer.step()
            return loss

        return model, names, gradient, update

    layouts = {"channels_last_3d": torch.channels_last_3d, "contiguous": torch.contiguous_format}
    model, names, gradient, update = make(torch.contiguous_format, torch.float64)
    answer, leaves = {"logits": gradient()[0]}, []
    for path, there in sorted(names.items()):
        kind, _, name = path.partition("/")
        if kind == "params":
            leaves.append(torch_darknet.like_ours(model.get_parameter(there).grad).ravel())
        elif name.endswith("mean"):  # torch's running variances are of n - 1, ours of n
            answer[f"after/{name}"] = torch_darknet.like_ours(model.get_buffer(there))
    answer["gradient"] = np.concatenate(leaves)
    third = [float(update()) for _ in range(3)][-1]
    updates = {name: make(layout)[-1] for name, layout in layouts.items()}
    taken = {name: min(seconds_of(update, 2)) for name, update in updates.items()}
    best = min(taken, key=taken.get)
    note = {"parameters": sum(p.numel() for p in model.parameters()), "third_loss": third, "layout": best}
    return Contender(answer, updates[best], images=clips, note=note | {"threads": torch.get_num_threads()})


HERE = "uscl.study.bench_clips"


def clip_step() -> Iterator[dict[str, Any]]:
    """8 clips of 16 x 64 x 64: forward, cross-entropy, backward, Adam, of the network with 133 880 parameters."""
    clips, frames, side = 8, 16, 64
    size, options = f"{clips} x {frames} x {side} x {side}", {"clips": clips, "frames": frames, "side": side}
    yield compare("clip_step", f"{HERE}:step_ours", f"{HERE}:step_twin", options, library="torch", size=size, goal=3.0)
