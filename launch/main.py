"""One experiment, from data to report: python launch/main.py --config=configs/NAME.py[:SCALE] [--workdir=DIR] [--config.key=value ...]

The same command again resumes what was interrupted and skips what is done. Under srun or mpirun the processes of one run find each other;
anywhere else each is told by --coordinator=HOST:PORT --processes=N --process=I. All of them need the same --workdir, on a shared disk.
"""

from absl import flags
from ml_collections import config_flags

from uscl.command import run_command

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/NAME.py, or configs/NAME.py:paper")
WORKDIR = flags.DEFINE_string("workdir", "", "where the run lives; empty: runs/NAME")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where the processes of one run meet")
PROCESSES = flags.DEFINE_integer("processes", None, "how many processes this run has; 1: it is alone, whatever a cluster tells")
PROCESS = flags.DEFINE_integer("process", None, "number of this process, from 0")
flags.mark_flag_as_required("config")


def main(_):
    from uscl.stages import experiment  # JAX is imported once the flags are known to be right
    from uscl.train import hosts

    hosts.start(coordinator=COORDINATOR.value, processes=PROCESSES.value, process=PROCESS.value)
    experiment.run(CONFIG.value, WORKDIR.value or f"runs/{CONFIG.value.experiment}")


if __name__ == "__main__":
    run_command(main)
