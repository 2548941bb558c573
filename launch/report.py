"""Draws a run's report again, from its folder alone: python launch/report.py --run=WORKDIR"""

from absl import flags

from uscl.command import run_command

RUN = flags.DEFINE_string("run", None, "a run's folder: the --workdir of launch/main.py", required=True)


def main(_):
    from uscl import report  # Matplotlib is imported once the flags are known to be right

    print(report.draw(RUN.value))


if __name__ == "__main__":
    run_command(main)
