"""A training step of the U-Net, 16 to 128 channels, beside the same network in torch: forward, cross-entropy, backward, Adam.

Forward alone and forward with backward have rows of their own, which say where a step's time goes.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender

CLASSES, RATE = 4, 1e-3
WORKS = ("forward", "gradient", "step")


def batch_of(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [N, S, S, 1] of mean 0, labels int32 [N, S, S] that follow them."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((batch, side, side, 1)).astype(np.float32)
    return image, np.digitize(image[..., 0] + 0.5 * rng.standard_normal((batch, side, side)), [-1, 0, 1]).astype(np.int32)


def ours(folder: str, batch: int, side: int, work: str, dtype: str = "float32", device: str = "cpu", compiled: bool = True) -> Contender:
    """`make_step` with a U-Net, as the stages use it."""
    import jax
    import optax

    from uscl import losses, models
    from uscl.train import mesh as meshes
    from uscl.train import pages, state, step

    pages.keep()  # as a run does
    meshes.enable_compilation_cache()
    mesh = meshes.make_mesh(1)
    model, weights = models.UNet(classes=CLASSES, dtype=dtype), {"cross_entropy": 1.0}
    variables = models.initialise(model, 0, (side, side, 1))
    image, label = batch_of(batch, side)
    data = meshes.put_batch(mesh, {"image": image, "label": label})
    optimizer = optax.adam(RATE)

    def loss_fn(params, batch_stats, data, key):
        logits, new = model.apply({"params": params, "batch_stats": batch_stats}, data["image"], train=True, mutable=["batch_stats"])
        loss = losses.cross_entropy(logits, jax.nn.one_hot(data["label"], CLASSES)).mean()
        return {"cross_entropy": loss}, (new["batch_stats"], {})

    def forward(params, batch_stats, image):
        return model.apply({"params": params, "batch_stats": batch_stats}, image, train=True, mutable=["batch_stats"])

    def gradient(params, batch_stats, data):
        return jax.value_and_grad(lambda p: loss_fn(p, batch_stats, data, None)[0]["cross_entropy"])(params)

    params, batch_stats = meshes.put_replicated(mesh, (variables["params"], variables["batch_stats"]))
    answer = {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path({"params": params})}
    if work == "forward":
        call = jax.jit(forward)
        answer["logits"] = np.asarray(call(params, batch_stats, data["image"])[0])
        once = lambda: jax.block_until_ready(call(params, batch_stats, data["image"]))  # noqa: E731
        return Contender(answer, once)
    if work == "gradient":
        call = jax.jit(gradient)
        loss, found = call(params, batch_stats, data)
        answer |= {"loss": loss, "norm": optax.tree.norm(found)}
        return Contender(answer, lambda: jax.block_until_ready(call(params, batch_stats, data)))
    held = [meshes.put_replicated(mesh, state.create(params, batch_stats, optimizer, terms=weights, seed=0))]
    update = step.make_step(loss_fn, optimizer, mesh, weights=weights)

    def once():
        held[0], metrics = update(held[0], data)
        return jax.block_until_ready((held[0], metrics))[1]

    metrics = [once() for _ in range(3)]
    answer |= {"loss": np.stack([m["loss"] for m in metrics]), "norm": metrics[0]["gradient_norm"]}
    note = {"parameters": models.parameter_count(params)}
    peak = (lambda: jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20) if device == "cuda" else None
    return Contender(answer, once, note=note, peak=peak)


def twin(
    folder: str, batch: int, side: int, work: str, dtype: str = "float32", device: str = "cpu", compiled: bool = False
) -> Contender:
    """The same network in torch, channels_last, our weights; Adam in its fused form, the fastest torch has."""
    import torch

    from uscl.study import torch_unet

    model = torch_unet.UNet(CLASSES)
    torch_unet.load(model, np.load(Path(folder) / "ours.npz"))
    model = model.to(device, memory_format=torch.channels_last).train()
    image, label = batch_of(batch, side)
    image = torch.from_numpy(image).permute(0, 3, 1, 2).to(device).contiguous(memory_format=torch.channels_last)
    label = torch.from_numpy(label.astype(np.int64)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    network = torch.compile(model) if compiled else model
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)

    def scores():
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            return network(image)

    def loss_and_gradient():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(scores().float(), label)
        loss.backward()
        return loss

    def forward():
        with torch.no_grad():
            found = scores()
        wait()
        return found

    def gradient():
        loss = loss_and_gradient()
        wait()
        return loss

    def update():
        loss = loss_and_gradient()
        optimizer.step()
        wait()
        return loss

    def norm():
        return torch.sqrt(sum(p.grad.square().sum() for p in model.parameters())).cpu().numpy()

    threads = {"threads": torch.get_num_threads()}
    if work == "forward":
        return Contender({"logits": forward().permute(0, 2, 3, 1).float().cpu().numpy()}, forward, note=threads)
    if work == "gradient":
        return Contender({"loss": gradient().detach().cpu().numpy(), "norm": norm()}, gradient, note=threads)
    found = [(update().detach().cpu().numpy(), norm()) for _ in range(3)]
    loss, norms = zip(*found, strict=True)
    note = {"parameters": sum(p.numel() for p in model.parameters())} | threads
    peak = (lambda: torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None
    return Contender({"loss": np.stack(loss), "norm": norms[0]}, update, note=note, peak=peak)


def _name(path) -> str:
    return "/".join(part.key for part in path)


def _row(name: str, work: str, batch: int = 8, side: int = 96, **more) -> dict[str, Any]:
    here, goal = "uscl.study.bench_step", more.pop("goal", None)
    options = {"batch": batch, "side": side, "work": work} | more.pop("options", {})
    return compare(name, f"{here}:ours", f"{here}:twin", options, library="torch", size=f"{batch} x {side} x {side}", goal=goal, **more)


def unet_step() -> Iterator[dict[str, Any]]:
    """On two CPU cores, 8 images of 96 x 96. Losses of three steps agree less well than the gradient they follow: Adam divides by its size,
    and so makes full steps of the rounding in gradients near 0."""
    yield _row("unet_step", "step", goal=1.0, tolerance=1e-2)


def unet_parts() -> Iterator[dict[str, Any]]:
    """What a step is made of: forward in training mode, and with the gradient."""
    yield _row("unet_forward", "forward", tolerance=1e-3)
    yield _row("unet_gradient", "gradient", tolerance=1e-3)


def unet_gpu() -> Iterator[dict[str, Any]]:
    """On a GPU: 64 images of 192 x 192 in bfloat16, beside torch.compile with channels_last and autocast; peak memory of the device."""
    if not _has_gpu():
        yield {"row": "unet_gpu", "skipped": "JAX sees no GPU here"}
        return
    options = {"dtype": "bfloat16", "device": "cuda", "compiled": True}
    yield _row("unet_gpu", "step", 64, 192, goal=1.5, tolerance=0.05, options=options, cpu=False, cap=0.0)


def _has_gpu() -> bool:
    """Asked of another process, because a backend that is started takes memory of the device until its process ends."""
    code = "import jax; print(jax.default_backend())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "gpu"
