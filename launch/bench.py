"""Speed and memory on this machine, beside the peers that are installed: python launch/bench.py [--only=NAME] [--json=FILE].

A peer that is not installed is a row that says so. Exit 1 where we and a peer do not agree, or one could not do the work.
"""

import json
import sys

from absl import flags

from uscl.command import run_command
from uscl.study import bench

ONLY = flags.DEFINE_enum("only", None, list(bench.ROWS), "one row instead of all")
JSON = flags.DEFINE_string("json", "", "also add the rows to this file, one JSON object a line")


def main(_):
    failed = False
    for name in [ONLY.value] if ONLY.value else bench.ROWS:
        for row in bench.ROWS[name]():
            print(
                "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()), flush=True
            )
            if JSON.value:
                with open(JSON.value, "a") as file:
                    file.write(json.dumps(row) + "\n")
            failed |= "failed" in row
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
