"""One process at a time in a run's folder: two would write into each other's checkpoints."""
import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from uscl.types import UserError

NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # file systems that know no locks, some network ones among them

log = logging.getLogger(__name__)


@contextlib.contextmanager
def hold(folder: Path | str) -> Iterator[Path]:
    """Holds `folder`/.lock, made if need be, until the block is left.

    The kernel's lock (flock), not the file's existence: it falls with its process, however that dies, so a killed run
    leaves nothing to clear away. The file says who holds it, for people; it stays, because a file that is removed while
    another process waits at its door would let two in. On a file system without locks it is told and the run goes on.

    Raises:
        UserError: another process holds it; told are its number, its machine and since when. Or the folder can't be written.
    """
    path = Path(folder) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path.parent}: can't be used as a run's folder: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path.parent}: in use by {_holder(file)}; wait for it, or take another --workdir") from error
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            log.warning("%s: this file system knows no locks; a second run in the folder would not be refused", path)
        since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}) + "\n")
        file.flush()
        yield path


def _holder(file) -> str:
    """Who wrote the file, in words; it may be empty for the instant between the lock and the writing."""
    file.seek(0)
    try:
        told = json.loads(file.read())
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
