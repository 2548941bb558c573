"""What every command does around its work: flags, the user's mistakes in one line, and the exit status.

Exit 0: done. 1: our mistake, with a traceback. 2: the user's, one line on stderr. 130: Ctrl-C. 143: SIGTERM.
"""

import difflib
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from uscl.config import KNOBS
from uscl.types import UserError

OVERRIDE = re.compile(r"--?config\.([^=]+)")


def run_command(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and runs `main(argv)` under the rules above. Never returns."""
    logging.set_verbosity(logging.WARNING)  # what JAX tells at INFO is of no use to a user
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse)


def _guarded(main: Callable[[list[str]], None], argv: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as an exception, so that files are closed on the way
    try:
        if len(argv) > 1:
            raise UserError(f"argument {argv[1]!r}: every argument is a flag, --name=value; --help lists them")
        main(argv)
    except UserError as error:
        _leave(error)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _parse(argv: list[str]) -> list[str]:
    try:
        _check_keys(argv)
        rest = flags.FLAGS(argv)
        _check_config_file()
        return rest
    except (flags.Error, UserError) as error:
        _leave(error)
    except SystemExit:  # only absl's help flags leave while parsing, with status 1: being asked for help is no mistake
        sys.exit(0)


def _check_keys(argv: list[str]) -> None:
    """A key that is not there, told before ml_collections meets it with a traceback; whole blocks cannot be set, which hides typos."""
    for key in (match[1] for match in map(OVERRIDE.match, argv) if match):
        if key not in KNOBS:
            near = difflib.get_close_matches(key, KNOBS, n=1)
            raise UserError(f"config.{key}: there is no such key" + (f"; did you mean config.{near[0]}?" if near else ""))


def _check_config_file() -> None:
    """A file that is not there; ml_collections would tell only when its first key is asked for."""
    if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
        path = Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0])
        if not path.is_file():
            raise UserError(f"--config: there is no file {path}; name one as configs/NAME.py or configs/NAME.py:SCALE")


def _leave(error: Exception) -> None:
    sys.stdout.flush()
    print("uscl: " + " ".join(str(error).splitlines()), file=sys.stderr)
    sys.exit(2)
