"""nnU-Net's plan, loss, optimiser and tiles against the original's own functions; skipped where nnunetv2 is not installed.

An environment for it: python -m venv DIR; DIR/bin/pip install nnunetv2==2.8.1 pytest pytest-xdist -e .; then DIR/bin/python -m pytest
tests/test_nnunet_original*.py
"""
# ruff: noqa: E402

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

HOW = "nnunetv2 is not installed; in an environment of its own: pip install nnunetv2==2.8.1 pytest pytest-xdist -e ."
nnunetv2 = pytest.importorskip("nnunetv2", reason=HOW)
torch = pytest.importorskip("torch", reason=HOW)

from batchgenerators.utilities.file_and_folder_operations import save_json
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner as planning
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as residual
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from uscl.losses import nnunet as losses
from uscl.models import plan as plans
from uscl.models import tiles
from uscl.train import schedules

PLANNERS = {
    "plain": (planning.ExperimentPlanner, 8), "resenc_m": (residual.nnUNetPlannerResEncM, 8),
    "resenc_l": (residual.nnUNetPlannerResEncL, 24), "resenc_xl": (residual.nnUNetPlannerResEncXL, 40),
}  # fmt: skip
DEGREES = {180.0: np.pi, 15.0: np.pi / 12}


@pytest.fixture
def original_plan(monkeypatch):
    """(shapes, kept, preset, spacing) -> the original's 2-D plan as its JSON holds it; its files are replaced by what they would say."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    told = {"channel_names": {"0": "ultrasound"}, "labels": dict.fromkeys("abcd", 0)}
    monkeypatch.setattr(planning, "maybe_convert_to_dataset_name", lambda name: name)
    monkeypatch.setattr(planning, "get_filenames_of_train_images_and_targets", lambda *_: {})
    monkeypatch.setattr(planning, "nnUNet_raw", "raw")
    monkeypatch.setattr(planning, "nnUNet_preprocessed", "preprocessed")
    monkeypatch.setattr(planning, "isfile", lambda path: "fingerprint" in path)

    def make(shapes, kept=(1.0,), preset="plain", spacing=(1.0, 1.0)):
        fingerprint = {"median_relative_size_after_cropping": float(np.median(kept))}
        monkeypatch.setattr(planning, "load_json", lambda path: fingerprint if "fingerprint" in path else told)
        planner, memory = PLANNERS[preset]
        median = np.median(shapes, 0)
        with torch.device("meta"):  # the planner builds every network it considers, for its maps alone
            found = planner("set", memory).get_plans_for_configuration(
                np.array(spacing), median, "2d", float(np.prod(median) * len(shapes)), {}
            )
        found["batch_dice"] = True
        recursive_fix_for_json_export(found)
        return found | {"experiment_planner_used": planner.__name__}

    return make


@pytest.mark.parametrize(("preset", "cases"), [("plain", 30), ("resenc_m", 8), ("resenc_l", 8), ("resenc_xl", 8)])
def test_planner_and_its_file(original_plan, tmp_path, preset, cases):
    rng = np.random.default_rng(len(preset))
    for case in range(cases):
        shapes = rng.integers(16, rng.choice([40, 300, 1400], 2) + 17, size=(rng.choice([3, 50, 500]), 2))
        kept, spacing = rng.uniform(0.4, 1, len(shapes)), (1.0, 1.0) if case % 2 else tuple(np.round(rng.uniform(0.2, 1.5, 2), 2))
        theirs = original_plan(shapes, kept, preset, spacing)
        name = theirs.pop("experiment_planner_used")
        save_json({"configurations": {"2d": theirs}, "experiment_planner_used": name, "transpose_forward": [0, 1, 2]}, tmp_path / "p.json")
        read = plans.read_plan(tmp_path / "p.json")
        made = plans.make_plan(shapes, kept=kept, values=4, preset=preset, spacing=spacing)
        assert made == read, (case, shapes.shape, np.median(shapes, 0), spacing)
        turn = (-DEGREES[plans.rotation_range(made.patch)], DEGREES[plans.rotation_range(made.patch)])
        assert plans.initial_patch(made) == tuple(get_patch_size(list(made.patch), turn, turn, turn, (0.85, 1.25)))


def test_tiles():
    rng = np.random.default_rng(0)
    for _ in range(50):
        patch = rng.integers(4, 300, 2)
        size = patch + rng.integers(0, 500, 2)
        share = float(rng.choice([0.5, 0.3, 1.0]))
        theirs = compute_steps_for_sliding_window(tuple(size), tuple(patch), share)
        assert [tiles.tile_starts(int(s), int(p), share) for s, p in zip(size, patch, strict=True)] == theirs
    for patch in ((64, 64), (33, 48), (192, 256)):
        theirs = compute_gaussian(patch, 1 / 8, 10, torch.float32, torch.device("cpu")).numpy()
        np.testing.assert_allclose(tiles.gaussian(patch), theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("size", [(40, 71), (20, 50)])
def test_sliding_window(size):
    """Its sums are in float16, in which the weight of a tile's corner has one digit; ours are in float32."""
    rng = np.random.default_rng(1)
    kernel, image = rng.normal(size=(3, 3, 1, 3)).astype(np.float32), rng.normal(size=(*size, 1)).astype(np.float32)
    network = torch.nn.Conv2d(1, 3, 3, padding=1, bias=False)
    network.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.network, predictor.allowed_mirroring_axes = network, (0, 1)
    predictor.configuration_manager = SimpleNamespace(patch_size=[32, 32])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=3)
    theirs = predictor.predict_sliding_window_return_logits(torch.tensor(image.transpose(2, 0, 1))[:, None])[:, 0].float().numpy()
    convolve = lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
    ours = tiles.make_logits(convolve, patch=(32, 32), batch=2)(image)
    apart = np.abs(ours - theirs.transpose(1, 2, 0))
    assert np.mean(apart) < 2e-3 and np.max(apart) < 0.1 and np.abs(ours).max() > 4


@pytest.mark.parametrize("regions", [False, True])
def test_loss(regions):
    """Loss and gradient of all outputs, weights and shrunken targets included, by the trainer's own loss."""
    rng, strides = np.random.default_rng(2), [[1, 1], [2, 2], [2, 1], [1, 2], [2, 2]]
    kinds = SimpleNamespace(has_regions=regions, ignore_label=None)
    trainer = SimpleNamespace(
        label_manager=kinds, is_ddp=False, enable_deep_supervision=True, _do_i_compile=lambda: False,
        configuration_manager=SimpleNamespace(batch_dice=True, pool_op_kernel_sizes=strides),
    )  # fmt: skip
    trainer._get_deep_supervision_scales = lambda: nnUNetTrainer._get_deep_supervision_scales(trainer)
    loss, scales = nnUNetTrainer._build_loss(trainer), trainer._get_deep_supervision_scales()
    label = rng.integers(0, 3, (2, 24, 40))
    label[1] = np.minimum(label[1], 1)
    groups = [[1, 2], [2], [5]]
    target = np.stack([np.isin(label, g) for g in groups], 1).astype(np.float32) if regions else label[:, None].astype(np.float32)
    shrunken = [DownsampleSegForDSTransform(scales)(segmentation=torch.tensor(one))["segmentation"] for one in target]
    shrunken = [torch.stack(parts) for parts in zip(*shrunken, strict=True)]
    logits = [rng.normal(size=(2, 3, *t.shape[2:])).astype(np.float32) for t in shrunken]
    given = [torch.tensor(x, requires_grad=True) for x in logits]
    theirs = loss(given, shrunken)
    theirs.backward()
    weights = losses.supervision_weights(len(scales))
    targets = losses.region_target(label, groups) if regions else jnp.asarray(label)

    def ours(outputs):
        return losses.deep_supervision(outputs, targets, weights, lambda z, t: losses.dice_ce(z, t, regions=regions)).mean()

    value, gradient = jax.jit(jax.value_and_grad(ours))([jnp.asarray(x.transpose(0, 2, 3, 1)) for x in logits])
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    for g, x in zip(gradient[:-1], given, strict=False):
        np.testing.assert_allclose(g, x.grad.numpy().transpose(0, 2, 3, 1), atol=1e-6)
    assert not np.any(gradient[-1])


def test_rate_and_optimizer():
    """The rates of 7 epochs, then 20 updates of the trainer's SGD with its clipping, of gradients small and large."""
    model = torch.nn.Linear(6, 1, bias=False)
    sgd = torch.optim.SGD(model.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    poly, rates = PolyLRScheduler(sgd, 1e-2, 7), []
    params, start = jnp.asarray(model.weight.detach().numpy()), model.weight.detach().numpy().copy()
    mine = schedules.poly_by_epoch(21, rate=1e-2, epoch=3)
    optimizer = schedules.nesterov_sgd(mine)
    state = optimizer.init(params)
    for step in range(20):
        poly.step(step // 3)
        rates.append(sgd.param_groups[0]["lr"])
        g = np.random.default_rng(step).normal(size=(1, 6)).astype(np.float32) * (20 if step % 3 else 0.5)
        model.weight.grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12)
        sgd.step()
        updates, state = optimizer.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose([mine(step) for step in range(20)], rates, rtol=1e-6)
    np.testing.assert_allclose(params - start, model.weight.detach().numpy() - start, rtol=2e-5, atol=1e-6)
