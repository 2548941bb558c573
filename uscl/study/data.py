"""Makes the phantom of a study, once: `python -m uscl.study.data STUDY`, by what STUDY/study.json says of it."""

import json
import sys
from pathlib import Path

from uscl.study.plan import make_config


def main(folder: Path) -> None:
    from uscl.stages import source
    from uscl.train.logs import Log

    plan = json.loads((folder / "study.json").read_text())
    shared = {key: value for key, value in plan["base"].items() if key.startswith("data.")}
    config = make_config(plan["experiments"][0]["config"], plan["scale"], shared)  # all experiments of a study have the same data
    (folder / "logs").mkdir(exist_ok=True)
    with Log(folder / "logs") as log:
        source.open_store(config, folder, log)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
