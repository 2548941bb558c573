"""The planner of nnU-Net against what the original (version 2.8.1) printed for the same data sets, and the file of a plan."""


import numpy as np
import pytest

from uscl.models.plan import Plan, initial_patch, make_plan, rotation_range
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
