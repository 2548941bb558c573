"""Pretraining from end to end, in frames a second, beside a torch DataLoader: frames drawn and read from a store, two augmented views of
each, the encoder with its head, InfoNCE, backward, Adam. All at the configuration's quick scale: 12 cines x 2 frames of 96 x 96 a step.

Each view, on both sides: speckle, attenuation with depth, shadow and gain, each with chance 1/2; a part of the area in [0.5, 1], resized
to full size, mirrored with chance 1/2; gamma in [0.7, 1 / 0.7], brightness +-0.3, contrast 1 +- 0.3; mean 0 and deviation 1.
We augment inside the compiled step; the peer in its loader, as its users do, with the number of loader processes that served it best.

Random draws cannot be the same on both sides. What must agree: the frames of the first batches; the crop of given boxes; the loss of that
batch without augmentation, three steps long; and, over 960 views, the first moments of what the augmentation makes.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uscl.study.bench_peers import compare
from uscl.study.bench_worker import Contender, die_with_parent

PATIENTS, LENGTH, SIDE = 40, 40, 96  # of the store
CINES, FRAMES = 12, 2  # of a batch
STEPS = 2  # of a unit of work
RATE, TEMPERATURE = 1e-3, 0.1
BOXES = np.array([[3.5, 10.25, 70, 70], [0, 96, 96, -96], [20, 5, 48, 48]] * 8, np.float32)


def make_store(path: Path) -> None:
    """Cines of speckle inside a sector, as large as those of the quick scale."""
    from scipy import ndimage

    from uscl.data.writer import StoreWriter

    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    inside = np.abs(x - SIDE / 2) < 10 + 0.6 * y
    with StoreWriter(path, size=SIDE, classes={"organ": [1]}) as writer:
        for patient in range(PATIENTS):
            parts = [ndimage.gaussian_filter(rng.normal(size=(LENGTH, SIDE, SIDE)), (1, 1, 1.5)) for _ in range(2)]
            writer.add(patient=f"p{patient}", frames=(np.hypot(*parts) * 700).clip(0, 255).astype(np.uint8) * inside, labels={})


def batches_of(folder: str):
    from uscl.data.loader import CineBatches
    from uscl.data.store import Store

    store = Store.open(Path(folder) / "store")
    return CineBatches(store, store.cines.patient.tolist(), cines=CINES, frames=FRAMES, sampling="uniform", seed=0)


def ours(folder: str) -> Contender:
    """The stage's own parts: `CineBatches`, `prefetch`, `encoder.make_loss` and `make_step`."""
    import jax
    import jax.numpy as jnp

    from uscl import augment, config, models
    from uscl.data.prefetch import prefetch
    from uscl.stages import encoder, pairs, views
    from uscl.stages import run as stage_run
    from uscl.train import mesh as meshes
    from uscl.train import pages, state, step

    make_store(Path(folder) / "store")
    pages.keep()  # as a run does
    meshes.enable_compilation_cache()
    knobs, mesh, batches = config.default("quick"), meshes.make_mesh(1), batches_of(folder)
    model, weights = models.GlobalModel(width=tuple(knobs.model.width), momentum=knobs.model.bn_momentum), {"contrastive": 1.0}
    rule, kind, view = pairs.rule_of(knobs, "encoder"), knobs.model.normalise, views.make_view(**knobs.encoder.views)
    variables = models.initialise(model, knobs.seed, (SIDE, SIDE, 1))
    optimizer = stage_run.make_optimizer(learning_rate=RATE, schedule="constant", steps=1)

    def prepared(view):
        update = step.make_step(encoder.make_loss(model, view, rule, kind), optimizer, mesh, weights=weights)
        start = state.create(variables["params"], variables["batch_stats"], optimizer, terms=weights, seed=knobs.seed)
        return update, meshes.put_replicated(mesh, start)

    first = batches.batch(0)
    plain, held = prepared(lambda key, image: augment.View(image, None))
    losses = []
    for _ in range(3):
        held, metrics = plain(held, meshes.put_batch(mesh, first))
        losses.append(metrics["contrastive"])
    image = jnp.asarray(first["image"], jnp.float32) / 255
    made = jax.jit(lambda key: augment.normalise(view(key, image).image, kind))
    answer = {"/".join(p.key for p in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}
    seen = np.concatenate([made(key) for key in jax.random.split(jax.random.key(0), 40)])
    answer |= {"frames": first["image"], "loss": np.stack(losses), "moments": moments(seen)}
    answer["crop"] = augment.crop_resize(image, jnp.asarray(BOXES), (SIDE, SIDE))

    (update, state_now), ahead = prepared(view), iter(prefetch(batches.batch, 0, 10**9))
    held = [state_now]

    def once():
        for _ in range(STEPS):
            held[0], metrics = update(held[0], meshes.put_batch(mesh, next(ahead)))
        return jax.block_until_ready((held[0], metrics))

    return Contender(answer, once, images=STEPS * CINES * FRAMES)


def torch_loader(folder: str) -> Contender:
    """A Dataset of whole batches behind a DataLoader; the network channels_last; Adam fused."""
    import torch

    from uscl.study import torch_unet, torch_views

    batches, ours = batches_of(folder), np.load(Path(folder) / "ours.npz")
    frames, first_of = np.load(batches.store.path / "frames.npy", mmap_mode="r"), batches.store.cines.first

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return 10**9

        def __getitem__(self, number):
            cine, frame = batches.indices(number)
            image = torch.from_numpy(frames[first_of[cine] + frame])[:, None].float() / 255
            return torch.cat([torch_views.view(image), torch_views.view(image)]), torch.from_numpy(cine)

    model = torch_unet.GlobalModel(SIDE)
    optimizer = None

    def restart():
        nonlocal optimizer
        torch_unet.load(model, ours)
        model.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def update(seen, cine):
        optimizer.zero_grad(set_to_none=True)
        z = torch.nn.functional.normalize(model(seen.contiguous(memory_format=torch.channels_last)))
        s, cine = z @ z.T / TEMPERATURE, cine.repeat(2)
        others = s.masked_fill(cine[:, None] == cine[None, :], -1e9).logsumexp(1)
        loss = torch.nn.functional.softplus(others - s.diagonal(len(s) // 2).repeat(2)).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    restart()
    cine, frame = batches.indices(0)
    read = frames[first_of[cine] + frame][..., None]
    image = torch.from_numpy(read)[:, None, ..., 0].float() / 255
    centred = image - image.mean((1, 2, 3), keepdim=True)
    whole = (centred * torch.rsqrt(centred.square().mean((1, 2, 3), keepdim=True) + 1e-8)).repeat(2, 1, 1, 1)
    losses = np.stack([update(whole, torch.from_numpy(cine)).numpy() for _ in range(3)])
    torch.manual_seed(0)
    seen = torch.cat([torch_views.view(image) for _ in range(40)]).permute(0, 2, 3, 1).numpy()
    crop = torch_views.crop_resize(image, torch.from_numpy(BOXES)).permute(0, 2, 3, 1).numpy()
    restart()

    def loader(workers):
        more = {"prefetch_factor": 2, "worker_init_fn": die_with_parent} if workers else {}
        return iter(torch.utils.data.DataLoader(Views(), batch_size=None, sampler=itertools.count(), num_workers=workers, **more))

    def several(ahead):
        for _ in range(STEPS):
            loss = update(*next(ahead))
        return loss

    taken, best = {}, None
    for workers in (0, 1, 2):
        ahead = loader(workers)
        several(ahead)
        began = time.perf_counter()
        several(ahead)
        taken[workers] = time.perf_counter() - began
        if taken[workers] == min(taken.values()):
            best = ahead
        del ahead  # ends its processes
    note = {"loader_processes": min(taken, key=taken.get), "threads": torch.get_num_threads()}
    answer = {"frames": read, "loss": losses, "crop": crop, "moments": moments(seen)}
    return Contender(answer, lambda: several(best), images=STEPS * CINES * FRAMES, note=note)


def moments(views: np.ndarray) -> np.ndarray:
    """What the distribution of views [N, H, W, 1] must share: third and fourth moment of the grey values of an image, averaged; roughness
    (mean absolute difference of neighbours) along both axes; and brightness of the lower against the upper half."""
    rough = [np.abs(np.diff(views, axis=axis)).mean() for axis in (1, 2)]
    half = views.shape[1] // 2
    depth = (views[:, :half].mean() - views[:, half:].mean()) / views.std()
    return np.array([(views**3).mean() / 10, (views**4).mean() / 10, *rough, depth])


def pipeline() -> Iterator[dict[str, Any]]:
    here, size = "uscl.study.bench_pipeline", f"{CINES} x {FRAMES} frames of {SIDE} x {SIDE}, two views"
    options = {"goal": 1.5, "tolerance": 0.08, "repetitions": 7, "turn": 0.0}  # moments over 960 random views are good to some 5 %
    yield compare("pipeline", f"{here}:ours", f"{here}:torch_loader", {}, library="torch", size=size, **options)
