"""A number of steps of the original nnU-Net from a seed, and its predictions; run by tests/nnunet_parity.py under the python that has it:

VENV/bin/python tests/nnunet_original_run.py STEPS SEED RAW/Dataset001_NAME OUT

nnUNet_raw, nnUNet_preprocessed and nnUNet_results are set, and the data set is planned and preprocessed. Leaves OUT/predictions/CASE.png
and OUT/losses.json, a mean an epoch of 10 steps.
"""

import json
import random
import sys
from pathlib import Path

EPOCH = 10


def main(steps: int, seed: int, raw: Path, out: Path) -> None:
    """Trains fold 0 of the 2-D configuration on one CPU thread, then predicts imagesTs with checkpoint_final, mirroring included.

    The trainer is the original's own class with other lengths set on it: one validation batch an epoch instead of 50 (its result decides
    nothing but checkpoint_best), and no picture of the progress.
    """
    import numpy as np  # here, and not above, because the processes that the predictor starts read this file again
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    trainer = get_trainer_from_args(raw.name, "2d", 0, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = steps // EPOCH, EPOCH, 1
    trainer.logger.plot_progress_png = lambda folder: None
    trainer.run_training()
    losses = [float(trainer.logger.get_value("train_losses", step=epoch)) for epoch in range(trainer.num_epochs)]
    (out / "losses.json").write_text(json.dumps(losses))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, use_folds=(0,), checkpoint_name="checkpoint_final.pth")
    predictor.predict_from_files(
        str(raw / "imagesTs"), str(out / "predictions"), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
