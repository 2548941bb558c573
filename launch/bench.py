"""Speed and memory on this machine: python launch/bench.py [--only=NAME] [--json=FILE]."""

import json

from absl import flags

from uscl.command import run_command
from uscl.study import bench

ONLY = flags.DEFINE_enum("only", None, list(bench.ROWS), "one row instead of all")
JSON = flags.DEFINE_string("json", "", "also write the rows to this file, one JSON object a line")


def main(_):
    for name in [ONLY.value] if ONLY.value else bench.ROWS:
        for row in bench.ROWS[name]():
            print(
                "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()), flush=True
            )
            if JSON.value:
                with open(JSON.value, "a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    run_command(main)
