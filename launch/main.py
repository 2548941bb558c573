"""One experiment, from data to report: python launch/main.py --config=configs/NAME.py[:SCALE] [--workdir=DIR] [--config.key=value ...]

The same command again resumes what was interrupted and skips what is done.
"""

from absl import flags
from ml_collections import config_flags

from uscl.command import run_command

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/NAME.py, or configs/NAME.py:paper")
WORKDIR = flags.DEFINE_string("workdir", "", "where the run lives; empty: runs/NAME")
flags.mark_flag_as_required("config")


def main(_):
    from uscl.stages import experiment  # JAX is imported once the flags are known to be right

    experiment.run(CONFIG.value, WORKDIR.value or f"runs/{CONFIG.value.experiment}")


if __name__ == "__main__":
    run_command(main)
