"""The planner of nnU-Net against what the original (version 2.8.1) printed for the same data sets, and the file of a plan."""

import copy
import json

import numpy as np
import pytest

from uscl.models.plan import Plan, initial_patch, make_plan, read_plan, rotation_range, write_plan
from uscl.types import UserError

PLAIN, RESIDUAL = (2,) * 16, (1, 3, 4) + (6,) * 13


def plan_of(shape, cases, values=4, **options):
    return make_plan(np.tile(shape, (cases, 1)), kept=np.ones(cases), values=values, **options)


def widths(stages, base=32):
    return tuple(min(512, base * 2**s) for s in range(stages))


def pairs(text):
    """'11 22 12' -> ((1, 1), (2, 2), (1, 2))"""
    return tuple((int(word[0]), int(word[1])) for word in text.split())


# shape, cases -> stages, deepest map, batch, what the loader reads; 5000 cases are enough for the cap to bind nobody
WORKED = [
    ((768, 1024), 411, 8, (6, 8), 4, (1204, 1204)),
    ((768, 1024), 514, 8, (6, 8), 4, (1204, 1204)),
    ((768, 1024), 41, 8, (6, 8), 2, (1204, 1204)),
    ((512, 512), 411, 8, (4, 4), 12, (602, 602)),
    ((384, 512), 411, 7, (6, 8), 16, (602, 602)),
    ((256, 256), 411, 7, (4, 4), 21, (301, 301)),
    ((256, 256), 5000, 7, (4, 4), 49, (301, 301)),
    ((192, 192), 411, 6, (6, 6), 21, (225, 225)),
    ((192, 192), 5000, 6, (6, 6), 88, (225, 225)),
    ((192, 192), 41, 6, (6, 6), 2, (225, 225)),
]


@pytest.mark.parametrize("shape,cases,stages,deepest,batch,read", WORKED)
def test_worked_examples(shape, cases, stages, deepest, batch, read):
    plan = plan_of(shape, cases)
    assert plan == Plan(
        preset="plain", patch=shape, batch=batch, features=widths(stages), strides=((1, 1),) + ((2, 2),) * (stages - 1),
        kernels=((3, 3),) * stages, blocks=(2,) * stages, decoder=(2,) * (stages - 1), residual=False, masked=False, shape=shape,
    )  # fmt: skip
    assert tuple(n // 2 ** (stages - 1) for n in plan.patch) == deepest
    assert initial_patch(plan) == read


# As the original's planner printed them: shape, cases, values, spacing, preset, memory, base -> patch, batch, strides, kernels, and what
# its trainer has its loader read at the patch's own largest turn and at 15 degrees.
PRINTED = """
768 1024  411  4  1.0   1.0    resenc_m   8   32 ->  448  576   13   11 22 22 22 22 22 22        33 33 33 33 33 33 33         677  677   684  677
768 1024  411  4  1.0   1.0    resenc_l   24  32 ->  768  896   13   11 22 22 22 22 22 22 22     33 33 33 33 33 33 33 33     1054 1054  1145 1054
768 1024  411  4  1.0   1.0    resenc_xl  40  32 ->  768 1024   17   11 22 22 22 22 22 22 22     33 33 33 33 33 33 33 33     1204 1204  1184 1204
256  256    3  4  1.0   1.0    resenc_m   8   32 ->  256  256    3   11 22 22 22 22 22 22        33 33 33 33 33 33 33         301  301   368  301
2335 1699  41  5  1.0   1.0    plain      16  64 -> 1536 1024    2   11 22 22 22 22 22 22 22 22  33 33 33 33 33 33 33 33 33  1807 1807  2057 1204
229  171    2  5  1.0   1.0    plain      4   16 ->  256  192    2   11 22 22 22 22 22           33 33 33 33 33 33            301  301   349  225
961  422    3  5  2.0   2.408  plain      3.3 32 -> 1024  448    2   11 22 22 22 22 22 22 21     33 33 33 33 33 33 33 33     1300  527  1300  527
42    87  581  5  8.858 1.0    resenc_l   48  32 ->   44   96  503   11 12 12 12 22 21           13 13 13 33 33 33             79  112    79  112
285   98   10 20  2.0   1.0    resenc_xl  40  32 ->  288  112    9   11 12 22 22 22 21 21        13 33 33 33 33 33 33         361  131   361  131
455  160  100  4  4.0   1.0    plain      8   32 ->  512  160    4   11 12 12 22 22 22 21 21 21  13 13 33 33 33 33 33 33 33   630  188   630  188
188 1307    1  8  1.0   1.0    resenc_m   3.3 32 ->  128  768    2   11 22 22 22 22 22 12 12     33 33 33 33 33 33 33 33      379  903   379  903
1349 1228   5  2  2.0   2.0    plain      8   24 -> 1536 1280    2   11 22 22 22 22 22 22 22 22  33 33 33 33 33 33 33 33 33  1807 1807  2135 1505
60    11   50  2  1.0   3.0    plain      8   32 ->   64   12    2   11 21 22 21                 31 33 33 33                   76   14    76   14
12     8    4  2  1.0   1.0    plain      8   32 ->   12    8    2   11 22                       33 33                         14   14    16    9
15    15   50  2  1.0   1.0    resenc_m   8   32 ->   16   16   44   11 22 22                    33 33 33                      18   18    23   18
6     40   50  2  20.0  1.0    plain      8   32 ->    6   40    2   11 12 12                    13 13 33                      18   47    18   47
4000 4000  30  2  1.0   4.0    plain      48   8 -> 4096 1024    6   11 21 21 22 22 22 22 22 22 22 22  31 31 33 33 33 33 33 33 33 33 33  4966 1204  4966 1204
"""  # noqa: E501


@pytest.mark.parametrize("line", PRINTED.strip().splitlines(), ids=lambda line: "-".join(line.split()[:7]))
def test_as_the_original_printed(line):
    asked, printed = (side.split() for side in line.split("->"))
    rows, columns, cases, values = map(int, asked[:4])
    spacing, preset, memory, base = (float(asked[4]), float(asked[5])), asked[6], float(asked[7]), int(asked[8])
    plan = plan_of((rows, columns), cases, values, spacing=spacing, preset=preset, memory=memory, base=base)
    numbers, stages = list(map(int, printed)), (len(printed) - 7) // 2
    residual = preset != "plain"
    assert plan == Plan(
        preset=preset, patch=tuple(numbers[:2]), batch=numbers[2], features=widths(stages, base),
        strides=pairs(" ".join(printed[3 : 3 + stages])), kernels=pairs(" ".join(printed[3 + stages : -4])),
        blocks=(RESIDUAL if residual else PLAIN)[:stages], decoder=(1 if residual else 2,) * (stages - 1), residual=residual,
        masked=False, shape=(rows, columns), spacing=spacing,
    )  # fmt: skip
    assert initial_patch(plan) == tuple(numbers[-4:-2]) and initial_patch(plan, turn=15) == tuple(numbers[-2:])
    if memory == {"plain": 8, "resenc_m": 8, "resenc_l": 24, "resenc_xl": 40}[preset]:
        assert plan == plan_of((rows, columns), cases, values, spacing=spacing, preset=preset, base=base)


def test_batch_by_hand():
    """16 x 16, two values, widths 32, 64, 128 on 256, 64 and 16 pixels: all maps counted on paper, and so many cases that no cap binds."""
    plain = 2 * 256 + 5 * 32 * 256 + 5 * 64 * 64 + 2 * 128 * 16
    assert plain == 66048
    assert plan_of((16, 16), 400_000, 2).batch == 15443  # 12 * 85e6 / 66048 = 15443.3
    residual = 2 * 256 + (1 + 2 + 2) * 32 * 256 + (6 + 1 + 2) * 64 * 64 + (8 + 1) * 128 * 16
    assert residual == 96768
    assert plan_of((16, 16), 20_000, 2, preset="resenc_m").batch == 16741  # 12 * 135e6 / 96768 = 16741.1
    assert plan_of((16, 16), 20_000, 2, preset="resenc_l").batch == 20_000  # at most the whole data set


def test_median_shape_mask_and_channels():
    shapes = [(24, 40), (25, 40), (26, 40), (60, 40)]
    plan = make_plan(shapes, kept=[0.2, 0.74, 0.75, 1.0], values=2, channels=3)
    assert plan.shape == (25.5, 40.0) and plan.patch == (28, 40) and plan.batch == 2 and plan.channels == 3
    assert plan.masked and not make_plan(shapes, kept=[0.2, 0.75, 0.75, 1.0], values=2).masked


def test_rotation_and_what_is_read():
    assert rotation_range((96, 64)) == 180 and rotation_range((98, 64)) == 15 and rotation_range((64, 98)) == 15
    plan = plan_of((768, 1024), 10)
    assert initial_patch(plan, turn=0) == (903, 1204)
    assert initial_patch(plan, turn=0, zoom=1.0) == (768, 1024) and initial_patch(plan, turn=0, zoom=1.5) == (1152, 1536)


@pytest.mark.parametrize(
    "change,told",
    [
        (dict(preset="resenc"), "preset: found 'resenc'; allowed are plain, resenc_m, resenc_l, resenc_xl"),
        (dict(shapes=[(8, 7)]), "frames: the median is 8 x 7"),
        (dict(shapes=np.zeros((0, 2)), kept=[]), "shapes, kept: found arrays of (0, 2) and (0,)"),
        (dict(kept=[1, 1]), "shapes, kept: found arrays of (1, 2) and (2,)"),
        (dict(values=1), "values: found 1; allowed is a whole number of at least 2"),
        (dict(channels=0), "channels: found 0"),
        (dict(base=8.5), "base: found 8.5"),
        (dict(spacing=(1.0, 0.0)), "spacing: found 0.0; allowed is a number above 0"),
        (dict(spacing=(float("inf"), 1.0)), "spacing: found inf"),
        (dict(memory=0), "memory: found 0; allowed is a number above 0"),
        (dict(memory=1e-5), "memory: found 1e-05 GB; not even the smallest"),
    ],
)
def test_what_no_plan_can_be_made_of(change, told):
    with pytest.raises(UserError) as caught:
        make_plan(**(dict(shapes=[(64, 64)], kept=[1.0], values=2) | change))
    assert told in str(caught.value)


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
    plan = plan_of((42, 87), 5, spacing=(8.858, 1.0), preset="resenc_m", base=8, channels=2)
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
