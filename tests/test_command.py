"""How every command ends: exit status, and one line for a user's mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("happens", "status", "told"),
    [
        ("raise UserError('one\\ntwo')", 2, "uscl: one two\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, ""),
        ("pass", 0, ""),
        ("1 / 0", 1, None),
    ],
)
def test_how_a_command_ends(happens, status, told):
    program = f"""
import os, signal, time
from uscl.command import run_command
from uscl.types import UserError
def main(argv):
    {happens}
run_command(main)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert done.stderr == told if told is not None else "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config.sede=3"], "uscl: config.sede: there is no such key; did you mean config.seed?\n"),
        (["--config.seed", "one"], "--config.seed"),
        (["--config.nothing.like.it=3"], "config.nothing.like.it"),
        (["--config=configs/nope.py"], "there is no file configs/nope.py"),
        (["--config=configs/speckle.py:huge"], "'huge'"),
    ],
)
def test_a_configuration_that_is_not_there(arguments, told):
    program = """
from ml_collections import config_flags
from uscl.command import run_command
CONFIG = config_flags.DEFINE_config_file("config", None)
run_command(lambda argv: print(CONFIG.value.seed))
"""
    command = [sys.executable, "-c", program, "--config=configs/speckle.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
