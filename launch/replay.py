"""Runs an update that went wrong again: python launch/replay.py --run=WORKDIR --stage=STAGE --step=N

The batch of an update with a metric that is NaN or infinite is kept in WORKDIR/STAGE/offending/N.npz. Printed are the update's metrics
and the first module whose output is not finite.
"""

from absl import flags

from uscl.command import run_command

RUN = flags.DEFINE_string("run", None, "a run's folder: the --workdir of launch/main.py", required=True)
STAGE = flags.DEFINE_string("stage", None, "encoder, decoder, finetune, nnunet, or nnunet/fold_K of several networks", required=True)
STEP = flags.DEFINE_integer("step", None, "number of the update, as the error and the kept file name it", required=True, lower_bound=1)


def main(_):
    from uscl.stages.replay import replay  # JAX is imported once the flags are known to be right
    from uscl.train.mesh import enable_compilation_cache

    enable_compilation_cache()
    print("\n".join(replay(RUN.value, STAGE.value, STEP.value)))


if __name__ == "__main__":
    run_command(main)
