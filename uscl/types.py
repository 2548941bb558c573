"""Names every floor shares: the user's mistake, and what a batch is."""

from collections.abc import Mapping
from typing import Any

# "image" uint8 [N, H, W, C]; "cine", "frame", "length" int32 [N]. Labelled ones: "label" uint8 [N, H, W], "mm" float32 [N].
Batch = Mapping[str, Any]


class UserError(Exception):
    """The user's mistake, told in one sentence that names the file or key, what was found and what is allowed.

    `launch/` prints the sentence on stderr and exits with status 2; no traceback is shown, because nothing of ours is broken.
    """
