"""Plans as files: what the original wrote is read, what we write is for people, what is broken is named."""

import copy
import json

import numpy as np
import pytest

from uscl.models.plan import make_plan, read_plan, write_plan
from uscl.types import UserError

# What the original wrote for four frames of 48 x 72 whose content is 24 to 27 x 40; keys that 2-D plans do not need are left out.
ORIGINAL = """{"dataset_name": "Dataset902_Tiny", "plans_name": "nnUNetPlans", "original_median_shape_after_transp": [1, 26, 40],
"image_reader_writer": "NaturalImage2DIO", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "configurations": {"2d": {
"data_identifier": "nnUNetPlans_2d", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [28, 40],
"median_image_size_in_voxels": [25.5, 40.0], "spacing": [1.0, 1.0], "normalization_schemes": ["ZScoreNormalization"],
"use_mask_for_norm": [true], "resampling_fn_data": "resample_data_or_seg_to_shape",
"architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arch_kwargs": {"n_stages": 3,
"features_per_stage": [32, 64, 128], "conv_op": "torch.nn.modules.conv.Conv2d", "kernel_sizes": [[3, 3], [3, 3], [3, 3]],
"strides": [[1, 1], [2, 2], [2, 2]], "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2], "conv_bias": true,
"norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d", "norm_op_kwargs": {"eps": 1e-05, "affine": true}, "dropout_op": null,
"dropout_op_kwargs": null, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": true}},
"_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]}, "batch_dice": true}},
"experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0":
{"max": 254.0, "mean": 192.32318115234375, "median": 193.0, "min": 129.0, "std": 36.83089065551758}}}"""
RESENC_L = (
    ORIGINAL.replace("PlainConvUNet", "ResidualEncoderUNet").replace('"n_conv_per_stage": [2, 2, 2]', '"n_blocks_per_stage": [1, 3, 4]')
    .replace('decoder": [2, 2]', 'decoder": [1, 1]').replace("ExperimentPlanner", "nnUNetPlannerResEncL")
    .replace('"batch_size": 2', '"batch_size": 4')
)  # fmt: skip


@pytest.mark.parametrize("text,preset", [(ORIGINAL, "plain"), (RESENC_L, "resenc_l")])
def test_reads_what_the_original_wrote(tmp_path, text, preset):
    (tmp_path / "nnUNetPlans.json").write_text(text)
    made = make_plan([(24 + i, 40) for i in range(4)], kept=[(24 + i) * 40 / (48 * 72) for i in range(4)], values=2, preset=preset)
    assert read_plan(tmp_path / "nnUNetPlans.json") == made
    other = text.replace("ExperimentPlanner", "PlannerOfOurs").replace("nnUNetPlannerResEncL", "PlannerOfOurs")
    (tmp_path / "other.json").write_text(other)
    assert read_plan(tmp_path / "other.json").preset == "PlannerOfOurs"
    write_plan(read_plan(tmp_path / "other.json"), tmp_path / "again.json")
    assert read_plan(tmp_path / "again.json") == read_plan(tmp_path / "other.json")


WRITTEN = """{
  "experiment_planner_used": "nnUNetPlannerResEncM",
  "configurations": {
    "2d": {
      "batch_size": 4,
      "patch_size": [44, 96],
      "median_image_size_in_voxels": [42.0, 87.0],
      "spacing": [8.858, 1.0],
      "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
      "use_mask_for_norm": [false, false],
      "batch_dice": true,
      "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
          "n_stages": 6,
          "features_per_stage": [8, 16, 32, 64, 128, 256],
          "kernel_sizes": [[1, 3], [1, 3], [1, 3], [3, 3], [3, 3], [3, 3]],
          "strides": [[1, 1], [1, 2], [1, 2], [1, 2], [2, 2], [2, 1]],
          "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
          "n_conv_per_stage_decoder": [1, 1, 1, 1, 1]
        }
      }
    }
  }
}
"""


def test_the_file_is_for_people(tmp_path):
    plan = make_plan(np.tile((42, 87), (5, 1)), kept=np.ones(5), values=4, spacing=(8.858, 1.0), preset="resenc_m", base=8, channels=2)
    write_plan(plan, tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text() == WRITTEN
    assert read_plan(tmp_path / "plan.json") == plan
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    (tmp_path / "plan.json").write_text(WRITTEN.replace('"batch_size": 4', '"batch_size": 1').replace("[44, 96]", "[48, 112]"))
    edited = read_plan(tmp_path / "plan.json")
    assert (edited.batch, edited.patch) == (1, (48, 112))


def leaves(value, path=()):
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path


def changed(content, path, value):
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


@pytest.mark.parametrize("text", [WRITTEN, ORIGINAL], ids=["ours", "original"])
def test_no_edit_is_overlooked(tmp_path, text):
    """Every number, word and flag of our own file, changed in turn, makes another plan or an error naming the file."""
    content, path = json.loads(text), tmp_path / "plan.json"
    path.write_text(text)
    plan, ignored = read_plan(path), set()
    for leaf in leaves(content):
        for value in (True, False, 0, -1, 3, 7.5, "word", None, [], {}, [1, 2], 10**400, float("nan"), float("inf")):
            broken = changed(content, leaf, value)
            if broken == content:
                continue
            path.write_text(json.dumps(broken))
            try:
                ignored |= {leaf[-1]} if read_plan(path) == plan else set()
            except UserError as error:
                assert str(error).startswith(f"{path}: ")
    assert not ignored if text is WRITTEN else not ignored & {"batch_size", "conv_op", "conv_bias", "nonlin", "affine", "dropout_op", "eps"}


NETWORK = "configurations.2d.architecture.arch_kwargs."
BROKEN = [
    ("configurations.2d.batch_size", 0, "found 0; allowed is a whole number from 1 to 65536"),
    ("configurations.2d.batch_size", True, "found true; allowed is a whole number"),
    ("configurations.2d.batch_size", 2.5, "found 2.5; allowed is a whole number"),
    ("configurations.2d.patch_size", [28, 42], "found [28, 42]; allowed is multiples of 4 and 4, the products of the strides"),
    ("configurations.2d.patch_size", [30, 40], "found [30, 40]; allowed is multiples of 4 and 4, the products of the strides"),
    ("configurations.2d.patch_size", [28], "found [28]; allowed is two whole numbers"),
    ("configurations.2d.patch_size", [4, 4], "the deepest map would be a single pixel"),
    ("configurations.2d.patch_size", [0, 4], "found [0, 4]; allowed is two whole numbers"),
    ("configurations.2d.median_image_size_in_voxels", [0, 40], "allowed is two numbers above 0"),
    ("configurations.2d.spacing", [1, float("nan")], "found [1, NaN]; allowed is two numbers above 0"),
    ("configurations.2d.normalization_schemes", ["CTNormalization"], 'allowed is a list, each "ZScoreNormalization"'),
    ("configurations.2d.use_mask_for_norm", [True, True], "allowed is 1 times false or 1 times true"),
    ("configurations.2d.batch_dice", False, "found false; allowed is true alone"),
    ("configurations.2d.architecture.network_class_name", "UNet", 'found "UNet"; allowed is one of dynamic_network_architectures.'),
    ("configurations.2d", None, "found null; allowed is an object"),
    ("experiment_planner_used", "nnUNetPlannerResEncM", "allowed is a planner of dynamic_network_architectures.architectures.unet.Plain"),
    ("transpose_forward", [1, 0, 2], "found [1, 0, 2]; allowed is [0, 1, 2] alone"),
    (NETWORK + "n_stages", 1, "found 1; allowed is a whole number from 2 to 16"),
    (NETWORK + "strides", [[1, 1], [2, 2]], "allowed is a list of 3 (n_stages), each two numbers that are 1 or 2"),
    (NETWORK + "strides", [[2, 2], [2, 2], [2, 2]], "allowed is [1, 1] for the first stage"),
    (NETWORK + "strides", [[1, 1], [1, 1], [2, 2]], "and a 2 in the pair of every other"),
    (NETWORK + "strides", [[1, 1], [4, 4], [1, 2]], "each two numbers that are 1 or 2"),
    (NETWORK + "kernel_sizes", [[3, 3], [3, 3]], "allowed is a list of 3 (n_stages), each two odd whole numbers"),
    (NETWORK + "kernel_sizes", [[3, 3], [2, 3], [3, 3]], "each two odd whole numbers"),
    (NETWORK + "features_per_stage", [32, 64], "found [32, 64]; allowed is a list of 3 (n_stages), each a whole number"),
    (NETWORK + "n_conv_per_stage", 2, "found 2; allowed is a list of 3"),
    (NETWORK + "n_conv_per_stage_decoder", [2, 2, 2], "found [2, 2, 2]; allowed is a list of 2 (n_stages - 1)"),
    (NETWORK + "dropout_op", "torch.nn.Dropout2d", 'found "torch.nn.Dropout2d"; allowed is null alone'),
    (NETWORK + "stem_channels", 16, "there is no such setting here"),
    (NETWORK + "n_blocks_per_stage", [1, 3, 4], "there is no such setting here"),
]


@pytest.mark.parametrize("key,value,told", BROKEN, ids=lambda v: str(v)[-40:])
def test_broken_values_are_named(tmp_path, key, value, told):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(changed(json.loads(ORIGINAL), key.split("."), value)))
    with pytest.raises(UserError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: {key}") and told in str(caught.value)


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "plan.json"
    for text, told in [
        (None, "can't be read: No such file"),
        ("", "is no JSON file: Expecting value"),
        (ORIGINAL[:300], "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        (ORIGINAL.replace('"batch_size": 2', '"batch_size": 2, "batch_size": 3'), "the key 'batch_size' stands twice"),
        (ORIGINAL.replace('"batch_size": 2,', ""), "configurations.2d.batch_size: there is no such key; allowed is a whole number"),
        (ORIGINAL.replace('"2d"', '"3d_fullres"'), "configurations.2d: there is no such key"),
        ("[1, 2]", "the whole: found [1, 2]; allowed is an object"),
    ]:
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError) as caught:
            read_plan(path)
        assert str(caught.value).startswith(f"{path}: ") and told in str(caught.value)
