"""A cine that was exported as numbered images."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from uscl.data import images
from uscl.data.recordings import Recording, check_size, checked, told
from uscl.types import UserError


def read_sequence(paths: Sequence[Path]) -> Recording:
    """Image files as the frames of one recording, in the order given. Images have neither time nor scale: both are nan.

    source: the first file's name. promised: the number of files. Raises UserError, here or while its frames are decoded: a file that is
    missing, broken, no image, of several pages or of another size than the first; it names that file.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise ValueError("a sequence has at least one image")
    for path in paths:
        if not path.is_file() or not images.is_image(path):
            raise UserError(f"{path.name}: is not an image file; a sequence is made of {' '.join(images.SUFFIXES)}")
    with told(paths[0]), images.opened(paths[0]) as first:
        size = first.height, first.width
        check_size(paths[0], *size, len(paths))
    return Recording(checked(paths[0], _frames(paths, size)), math.nan, math.nan, paths[0].name, promised=len(paths))


def _frames(paths: list[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    for path in paths:
        with told(path):
            with images.opened(path) as image:
                if (image.height, image.width) != size:
                    raise UserError(
                        f"{path.name}: is {image.height} x {image.width} pixels and the first of its sequence {size[0]} x {size[1]}"
                    )
            pages = list(itertools.islice(images.read(path).frames, 2))
            if len(pages) > 1:
                raise UserError(f"{path.name}: has several pages; in a sequence a file is one frame")
        yield pages[0]
