"""Many experiments, their tables and a report: python launch/study.py --study=NAME [--scale=paper] --workdir=DIR [--config.key=value ...]

The same command again goes on where it was stopped. Overrides hold for all experiments, --config.data.store=STORE above all. On several
GPUs the experiments run side by side, one each; on a CPU in processes on cores of their own (--jobs). For a cluster:

    python launch/study.py ... --list > lines.txt      one command a line for a job array; stderr says which lines wait for which
    python launch/study.py ...                         once they have ended: collects, and draws the report

--weights=FILE adds the rows that begin from a public ResNet's weights, a .safetensors file of yours; nothing is downloaded.
"""

import sys

from absl import flags
from ml_collections import config_flags

from uscl import config as uscl_config
from uscl.command import OVERRIDE, run_command
from uscl.types import UserError

STUDY = flags.DEFINE_string("study", "kidney", "kidney, lung, anatomy or heads")
SCALE = flags.DEFINE_string("scale", "quick", "quick: the embedded phantom, an hour on two cores; paper: the papers' protocol")
WORKDIR = flags.DEFINE_string("workdir", "", "where the study lives; empty: runs/study_NAME")
DEVICES = flags.DEFINE_list("devices", None, "GPUs to use, by number; all by default")
JOBS = flags.DEFINE_integer("jobs", 0, "on a CPU: processes side by side, each on cores of its own; 0: a core each", lower_bound=0)
ONLY = flags.DEFINE_list("only", [], "experiments to run, by the names that uscl/study/NAME.py gives them; all by default")
SEEDS = flags.DEFINE_list("seeds", [], "seeds to run; the study's own by default. The same folder takes more of them later")
WEIGHTS = flags.DEFINE_string("weights", "", "a .safetensors file with a public ResNet's weights, for the rows that begin from it")
LIST = flags.DEFINE_boolean("list", False, "print the commands of all runs, one a line, and run nothing")
OVERRIDES: list[str] = []


def main(_):
    from uscl.study import plan, run

    study = plan.override(plan.load(STUDY.value, SCALE.value), overrides(SCALE.value))
    study = plan.only(plan.with_weights(study, WEIGHTS.value) if WEIGHTS.value else study, ONLY.value, seeds())
    folder = WORKDIR.value or f"runs/study_{STUDY.value}"
    if LIST.value:
        lines, notes = run.commands(study, folder)
        print("\n".join(lines))
        print("\n".join(notes), file=sys.stderr)
        return
    outcome = run.run(study, folder, devices=DEVICES.value, count=JOBS.value, tell=lambda text: print(text, flush=True))
    from uscl.report import study as page  # Matplotlib is not loaded before there is something to draw

    print(f"report: {page.draw(folder)}", flush=True)
    if outcome.failed:
        sys.exit(1)


def seeds() -> list[int]:
    for text in SEEDS.value:
        if not text.isdecimal():
            raise UserError(f"--seeds: found {text!r}; allowed are whole numbers from 0")
    return [int(text) for text in SEEDS.value]


def overrides(scale: str) -> dict:
    """{key: value} of the --config flags, each of the type its key has."""
    for key in (OVERRIDE.match(text)[1] for text in OVERRIDES):
        if key not in uscl_config.KNOBS:
            raise UserError(f"config.{key}: there is no such key")
    values, line = flags.FlagValues(), ["study", *OVERRIDES]
    config_flags.DEFINE_config_dict("config", uscl_config.default(scale), flag_values=values, sys_argv=line)
    try:
        values(line)
    except flags.Error as error:
        raise UserError(str(error)) from error
    return dict(values["config"].override_values)


if __name__ == "__main__":
    OVERRIDES += [text for text in sys.argv[1:] if OVERRIDE.match(text)]  # kept from the parser, which knows no config file here
    sys.argv[1:] = [text for text in sys.argv[1:] if not OVERRIDE.match(text)]
    run_command(main)
