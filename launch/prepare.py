"""Makes a store from recordings, or brings one up to date: cines and stills are read, cropped, labelled, and split by patient.

python launch/prepare.py --source=cines --source=stills --out=STORE
python launch/prepare.py --source=images --annotations=drawn.csv --patients=who.csv --out=STORE
python launch/prepare.py --source=hc18:training_data --out=STORE        a public set by its recipe: --recipes lists them
python launch/prepare.py --source=cines --out=STORE --check             reads all, leaves only STORE.check/report.html
python launch/prepare.py --source=STORE --export=nnunet --out=nnUNet_raw
"""

import shutil
import tempfile
from pathlib import Path

from absl import flags

from uscl.command import run_command
from uscl.data import nnunet, recipes
from uscl.data.prepare import prepare
from uscl.data.store import Store
from uscl.data.summary import describe
from uscl.train.progress import shown
from uscl.types import UserError

SOURCE = flags.DEFINE_multi_string("source", [], "file or folder of recordings, or RECIPE:FOLDER; may be given several times")
ANNOTATIONS = flags.DEFINE_string("annotations", None, "folder of masks named like the images, or a VIA csv or json, or a COCO json")
OUT = flags.DEFINE_string("out", None, "folder of the store")
SIZE = flags.DEFINE_integer("size", 192, "side of the stored frames [px]", lower_bound=8, upper_bound=4096)
WORKERS = flags.DEFINE_integer("workers", None, "processes that read side by side; the number of cores by default", lower_bound=1)
PATIENTS = flags.DEFINE_multi_string("patients", [], "csv with the columns file,patient and perhaps part, mm_per_pixel, frame_ms")
KEEP = flags.DEFINE_list("keep", [], "further columns of that csv that go into the store as they are, such as a diagnosis")
KEEP_NAMES = flags.DEFINE_boolean("keep_names", False, "show names of files and patients as they are, where they are no secret")
SEED = flags.DEFINE_integer("seed", 0, "of the split into train, validation and test", lower_bound=0)
VALIDATION = flags.DEFINE_float("validation", 0.1, "share of the labelled patients that validate", lower_bound=0, upper_bound=0.9)
TEST = flags.DEFINE_float("test", 0.2, "share of the labelled patients that test", lower_bound=0, upper_bound=0.9)
FOLDS = flags.DEFINE_integer("folds", 0, "deal train and validation into so many folds as well", lower_bound=0)
EVERY = flags.DEFINE_integer("every", 1, "keep every N-th frame of a cine", lower_bound=1)
MOST = flags.DEFINE_integer("most", None, "keep at most N frames of a cine", lower_bound=1)
BUDGET = flags.DEFINE_float("budget", 0.2, "share of the files that may be rejected", lower_bound=0, upper_bound=1)
BEAM = flags.DEFINE_boolean("beam", True, "crop to the beam and blank what is outside, text included")
SEQUENCES = flags.DEFINE_boolean("sequences", False, "numbered images of a folder are the frames of one cine")
OUTLINES = flags.DEFINE_boolean("outlines", False, "masks are closed curves, to be filled")
ATTRIBUTE = flags.DEFINE_string("attribute", None, "which attribute of a drawn region is its class, where there are several")
CHECK = flags.DEFINE_boolean("check", False, "read and check everything, and write nothing but the report")
EXPORT = flags.DEFINE_enum("export", None, ["nnunet"], "write the labelled frames of a store in the layout of another program")
RECIPES = flags.DEFINE_boolean("recipes", False, "list the public sets that have a recipe, and stop")


def main(_):
    if RECIPES.value:
        print("\n".join(f"{name:14} {recipes.describe(name)}" for name in recipes.RECIPES))
        return
    if not SOURCE.value or not OUT.value:
        missing = "--source" if not SOURCE.value else "--out"
        raise UserError(f"{missing}: is not given; needed are --source=PATH, a file or folder of recordings, and --out=STORE")
    out = Path(OUT.value)
    if out.name in ("", ".."):
        raise UserError(f"--out: {OUT.value!r} is a folder that is there already; name a new one, such as --out=STORE")
    if EXPORT.value:
        print(f"{nnunet.export(Store.open(SOURCE.value[0]), out)}: written")
    elif CHECK.value:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".check-") as folder:
            make(Path(folder) / "store", report=out.with_name(out.name + ".check"))
    else:
        make(out, report=out)


def make(out, *, report):
    summary = prepare(
        SOURCE.value, out, told=None if report == out else report, annotations=ANNOTATIONS.value, patients=PATIENTS.value,
        keep=KEEP.value, keep_names=KEEP_NAMES.value, size=SIZE.value, seed=SEED.value, validation=VALIDATION.value, test=TEST.value,
        folds=FOLDS.value, every=EVERY.value, most=MOST.value, processes=WORKERS.value, budget=BUDGET.value, beam=BEAM.value,
        sequences=SEQUENCES.value, outlines=OUTLINES.value, attribute=ATTRIBUTE.value, progress=shown,
    )  # fmt: skip
    from uscl.report import store as page  # not above: the processes that read would load Matplotlib, too

    report.mkdir(exist_ok=True)
    page.write_page(Store.open(out), out / "rejected.csv", report / "report.html")
    if report != out:
        shutil.copy(out / "rejected.csv", report / "rejected.csv")
    print(describe(summary, table=report / "rejected.csv"))
    print(f"report: {report / 'report.html'}")


if __name__ == "__main__":
    run_command(main)
