"""Makes a store from recordings: DICOM and video become cines, images with masks labelled stills, patients are split.

python launch/prepare.py --source=videos --source=stills --out=stores/mine
python launch/prepare.py --source=images --annotations=masks --patients=who.csv --size=128 --out=stores/other
python launch/prepare.py --source=videos --check
"""

from absl import flags

from uscl.command import run_command
from uscl.data.prepare import describe, prepare

SOURCE = flags.DEFINE_multi_string("source", None, "file or folder of recordings; may be given several times", required=True)
ANNOTATIONS = flags.DEFINE_string("annotations", None, "folder of masks for the images of the same names")
PATIENTS = flags.DEFINE_string("patients", None, "csv with the columns file,patient, where file names do not tell patients apart")
OUT = flags.DEFINE_string("out", None, "folder of the new store")
SIZE = flags.DEFINE_integer("size", 96, "side of the stored frames [px]", lower_bound=8, upper_bound=4096)
SEED = flags.DEFINE_integer("seed", 0, "of the split into train, validation and test", lower_bound=0)
EVERY = flags.DEFINE_integer("every", 1, "keep every N-th frame of a cine", lower_bound=1)
MOST = flags.DEFINE_integer("most", None, "keep at most N frames of a cine", lower_bound=1)
CHECK = flags.DEFINE_boolean("check", False, "read everything, tell what would be rejected, write nothing")


def main(_):
    summary = prepare(
        SOURCE.value, OUT.value, annotations=ANNOTATIONS.value, patients=PATIENTS.value, size=SIZE.value, seed=SEED.value,
        every=EVERY.value, most=MOST.value, check=CHECK.value,
    )  # fmt: skip
    print(describe(summary))


if __name__ == "__main__":
    run_command(main)
