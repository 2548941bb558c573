"""nnU-Net's preparation, sampling and augmentation against the original's own functions; skipped where nnunetv2 is not installed."""
# ruff: noqa: E402

from types import SimpleNamespace

import jax
import numpy as np
import pytest

HOW = "nnunetv2 is not installed; in an environment of its own: pip install nnunetv2==2.8.1 pytest pytest-xdist -e ."
nnunetv2 = pytest.importorskip("nnunetv2", reason=HOW)
torch = pytest.importorskip("torch", reason=HOW)

from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading import data_loader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from uscl.augment import nnunet as augment
from uscl.augment import nnunet_gray as gray
from uscl.data.cases import prepare_case
from uscl.data.folds import five_folds
from uscl.data.patches import corner_of
from uscl.metrics.components import largest_component


@pytest.fixture(scope="module")
def phantom():
    """A picture with a black border, black holes and structures drawn into both: image uint8 [50, 70], label uint8."""
    rng = np.random.default_rng(0)
    image = rng.integers(1, 200, (50, 70)).astype(np.uint8)
    image[:7], image[:, 61:], image[20:26, 30:40], image[15, 15] = 0, 0, 0, 0
    label = np.zeros((50, 70), np.uint8)
    label[5:24, 25:36], label[30:40, 50:66] = 1, 2
    return image, label


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_preparation(phantom, masked, labelled):
    image, label = phantom
    kept = "resample_data_or_seg_to_shape"
    kwargs = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    planned = {
        "spacing": [1.0, 1.0], "patch_size": [64, 64], "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [masked],
        "resampling_fn_data": kept, "resampling_fn_data_kwargs": kwargs,
        "resampling_fn_seg": kept, "resampling_fn_seg_kwargs": kwargs | {"is_seg": True, "order": 1},
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
    }  # fmt: skip
    manager = PlansManager({
        "dataset_name": "d", "plans_name": "p", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager", "configurations": {"2d": planned}, "foreground_intensity_properties_per_channel": {"0": {}},
    })  # fmt: skip
    told = {"labels": {"background": 0, "a": 1, "b": 2}, "channel_names": {"0": "ultrasound"}, "file_ending": ".png"}
    seg, properties = label[None, None].astype(np.int16) if labelled else None, {"spacing": [999, 1, 1]}
    work = DefaultPreprocessor(verbose=False)
    data, seg, found = work.run_case_npy(image[None, None], seg, properties, manager, manager.get_configuration("2d"), told)
    case = prepare_case(image, label if labelled else None, masked=masked)
    assert [list(pair) for pair in found["bbox_used_for_cropping"][1:]] == [list(case.box[:2]), list(case.box[2:])]
    np.testing.assert_allclose(case.image, data[0, 0], atol=2e-5)
    if labelled:
        np.testing.assert_array_equal(case.label, seg[0, 0])
        for value in (1, 2):  # all pixels of a class, where these are fewer than 10,000
            theirs = {tuple(place) for place in np.asarray(found["class_locations"][value])[:, 2:].tolist()}
            assert theirs == set(map(tuple, np.argwhere(case.label == value).tolist()))


def test_corners(monkeypatch):
    """Corners around a pixel, and the first and last of those drawn at random, by the original's loader."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        patch = rng.integers(20, 120, 2)
        read, shape = patch + rng.integers(0, 60, 2), rng.integers(20, 200, 2)
        centre = tuple(int(rng.integers(n)) for n in shape)
        loader = data_loader.nnUNetDataLoader(
            SimpleNamespace(identifiers=["a"]), 2, tuple(map(int, read)), tuple(map(int, patch)),
            SimpleNamespace(all_labels=[0, 1], has_ignore_label=False), 0.33,
        )  # fmt: skip
        places = {1: np.array([[0, 0, *centre]])}
        ours = lambda rng, centre: corner_of(rng, tuple(shape), centre, patch=tuple(patch), read=tuple(read))  # noqa: B023, E731
        assert list(ours(rng, centre)) == list(loader.get_bbox(np.array([1, *shape]), True, places)[0][1:])
        for pick in (lambda low, high: low, lambda low, high: high - 1):
            monkeypatch.setattr(data_loader.np.random, "randint", pick)
            theirs = loader.get_bbox(np.array([1, *shape]), False, None)[0][1:]
            monkeypatch.undo()
            assert list(ours(SimpleNamespace(integers=pick), None)) == list(theirs)


@pytest.mark.parametrize("batch", [2, 4, 12, 16, 21, 49])
def test_forced_share(batch):
    loader = SimpleNamespace(batch_size=batch, oversample_foreground_percent=trainer_share())
    forced = [data_loader.nnUNetDataLoader._oversample_last_XX_percent(loader, i) for i in range(batch)]
    assert forced.index(True) == round(batch * (1 - 0.33)) and forced == sorted(forced)


def trainer_share() -> float:
    """The share that the trainer sets, read from its source: making a trainer takes a whole data set."""
    import inspect

    line = next(row for row in inspect.getsource(nnUNetTrainer.__init__).splitlines() if "oversample_foreground_percent" in row)
    return float(line.split("=")[1])


def test_folds():
    for n in (5, 7, 23, 64):
        names = sorted(f"case{i}" for i in range(n))
        theirs = generate_crossval_split(names)
        assert [(train, val) for train, val in five_folds(names)] == [(s["train"], s["val"]) for s in theirs]


def test_largest_component():
    rng = np.random.default_rng(4)
    for share in (0.2, 0.35, 0.5):
        mask = rng.random((40, 40)) < share
        np.testing.assert_array_equal(largest_component(mask), remove_all_but_largest_component(mask))


def test_warp():
    """Turn, zoom and mirrors of image and label with given numbers, in a square and elsewhere; -1 within and beyond the border."""
    rng = np.random.default_rng(5)
    for shape, size in (((60, 60), (40, 40)), ((50, 71), (32, 48))):
        image = rng.normal(size=shape).astype(np.float32)
        label = np.kron(rng.integers(-1, 4, (-(-shape[0] // 5), -(-shape[1] // 5))), np.ones((5, 5), int))[: shape[0], : shape[1]]
        apply = jax.jit(lambda *given, size=size: augment.apply_draws(jax.random.key(0), *given, size=size))
        for degrees, zoom, axes in ((0, 1, ()), (30, 1, (0,)), (-77, 1, (1,)), (0, 1.4, ()), (0, 0.7, (0, 1)), (163, 1.27, ())):
            angle = np.deg2rad(degrees)
            spatial = SpatialTransform(
                size, 0, False, p_rotation=float(degrees != 0), rotation=(angle, angle), p_scaling=float(zoom != 1), scaling=(zoom, zoom),
                p_synchronize_scaling_across_axes=1, border_mode_seg="constant", padding_value_seg=-1,
            )  # fmt: skip
            theirs = spatial(image=torch.tensor(image)[None].clone(), segmentation=torch.tensor(label, dtype=torch.int16)[None])
            theirs = {name: np.flip(value[0].numpy(), axes) for name, value in theirs.items()}
            one = np.ones((1, 1), np.float32)
            draws = augment.Draws(
                angle=np.float32([angle]), zoom=np.float32([zoom]), noise=np.zeros(1, np.float32), blur=np.zeros((1, 1, 2), np.float32),
                brightness=one, contrast=one, resolution=one, gamma_inverted=one, gamma=one, flip=np.array([[0 in axes, 1 in axes]]),
            )  # fmt: skip
            ours, values = apply(image[None, ..., None], label[None], draws)
            np.testing.assert_allclose(ours[0, ..., 0], theirs["image"], atol=2e-3, err_msg=f"{degrees} degrees, {zoom}")
            assert np.mean(np.asarray(values[0]) == np.maximum(theirs["segmentation"], 0)) > 0.998, (degrees, zoom)


def test_gray_values():
    """Blur, contrast, low resolution and both gammas, each with given numbers, on a plane that is no square."""
    rng = np.random.default_rng(6)
    plane = (rng.normal(size=(33, 46)) + np.linspace(-2, 2, 46)).astype(np.float32)
    blur, contrast, lower = jax.jit(gray.blur), jax.jit(gray.contrast), jax.jit(gray.low_resolution)
    bend = jax.jit(gray.gamma, static_argnames="invert")
    cases = [(GaussianBlurTransform(s, False, False, 1), blur, [[s, s]], {}) for s in (0.5, 0.62, 0.9, 1.0)]
    cases += [(ContrastTransform(factor, True, False, 1), contrast, [factor], {}) for factor in (0.75, 1.21)]
    cases += [(SimulateLowResolutionTransform(scale, False, True, None, None, 1), lower, [scale], {}) for scale in (0.5, 0.61, 0.97)]
    cases += [(GammaTransform(e, i, False, 1, 1), bend, [e], {"invert": bool(i)}) for e, i in ((0.7, 0), (1.5, 0), (0.8, 1), (1.3, 1))]
    for transform, ours, value, how in cases:
        theirs = transform(image=torch.tensor(plane)[None].clone())["image"][0].numpy()
        np.testing.assert_allclose(ours(plane[None], np.float32(value), **how)[0], theirs, atol=2e-4, err_msg=str(transform))
        assert np.abs(theirs - plane).max() > 0.05


def test_chances_and_ranges():
    """How often and how far: what the trainer's own list of transforms says, against 20,000 of our draws."""
    chain = nnUNetTrainer.get_training_transforms((64, 64), (-np.pi, np.pi), None, (0, 1), False).transforms
    spatial, random = chain[0], [t for t in chain if isinstance(t, RandomTransform)]
    draws = jax.tree.map(np.asarray, augment.draw(jax.random.key(0), 20_000, 1))
    noise, blur, brightness, contrast, low, inverted, gamma = ((t.apply_probability, t.transform) for t in random)
    fixed = lambda bounds: lambda n: np.random.default_rng(0).uniform(*bounds, n)  # noqa: E731
    around = lambda rule: lambda n: np.array([rule() for _ in range(n)])  # noqa: E731
    expected = {
        "angle": (0, spatial.p_rotation, fixed(spatial.rotation)), "zoom": (1, spatial.p_scaling, fixed(spatial.scaling)),
        "noise": (0, noise[0], fixed(noise[1].noise_variance)), "blur": (0, blur[0] * blur[1].p_per_channel, fixed(blur[1].blur_sigma)),
        "brightness": (1, brightness[0], around(brightness[1].multiplier_range)),
        "contrast": (1, contrast[0], around(contrast[1].contrast_range)),
        "resolution": (1, low[0] * low[1].p_per_channel, fixed(low[1].scale)),
        "gamma_inverted": (1, inverted[0], around(inverted[1].gamma)), "gamma": (1, gamma[0], around(gamma[1].gamma)),
        "flip": (0, 0.5, None),
    }  # fmt: skip
    assert set(expected) == set(augment.Draws._fields)
    for name, (neutral, share, sample) in expected.items():
        values = getattr(draws, name)
        found = values[values != neutral].astype(float)
        assert abs(len(found) / values.size - share) < 0.015, name
        if sample is not None:
            shares = (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999)
            theirs = np.quantile(sample(20_000), shares)
            np.testing.assert_allclose(np.quantile(found, shares), theirs, atol=0.06 * np.ptp(theirs), err_msg=name)
    assert random[0].transform.synchronize_channels and inverted[1].p_invert_image == 1 and gamma[1].p_invert_image == 0
