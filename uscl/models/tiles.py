"""Logits of images of any size from a network of one size: overlapping tiles, mirrored, blended by a Gaussian."""
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

AXES = {"rows": 1, "columns": 2}  # of a batch of tiles; mirroring "rows" reverses their order: up and down change places


def tile_starts(size: int, patch: int, share: float = 0.5) -> list[int]:
    """First pixels of the tiles along one axis: as few as keep steps <= share * patch, evenly spread, edge to edge.

        n = ceil((size - patch) / (share * patch)) + 1;   start_i = round(i * (size - patch) / (n - 1)), halves to the even side

    Source: Isensee et al. 2021, version 2.8.1 of the code. Raises ValueError for size < patch or share outside (0, 1].

    Known values: 110 by 64 gives 0, 23, 46; 101 by 50 gives 0, 17, 34, 51; size = patch gives 0.
    """
    if size < patch or patch < 1 or not 0 < share <= 1:
        raise ValueError(f"size {size}, patch {patch}, share {share}; 1 <= patch <= size and 0 < share <= 1 expected")
    n = int(np.ceil((size - patch) / (share * patch))) + 1
    return [round(i * ((size - patch) / (n - 1))) for i in range(n)] if n > 1 else [0]


def gaussian(patch: tuple[int, int], *, peak: float = 10.0, dtype=np.float32) -> np.ndarray:
    """How much a tile's pixel counts: most in the middle, where the network saw its surroundings.

        w(y, x) = peak * exp(-((y - H // 2)^2 / (H/8)^2 + (x - W // 2)^2 / (W/8)^2) / 2)

    What the type rounds to 0 gets the smallest value above 0, for a pixel that no tile weighs has no mean. The original rounds to
    float16, and keeps its sums there; ours are float32. Returns [H, W] of `dtype`. Source as above.

    Known values: peak at (H // 2, W // 2); the first pixel of an even by even patch peak * exp(-16) = 1.12535e-7 * peak.
    """
    rows, columns = (np.exp(-(((np.arange(p) - p // 2) * 8 / p) ** 2) / 2) for p in patch)
    weights = (peak * rows[:, None] * columns).astype(dtype)
    return np.where(weights > 0, weights, weights[weights > 0].min())


def make_logits(network_fn: Callable, *, patch, mirror=("rows", "columns"), batch: int, share: float = 0.5, jit=None) -> "TiledLogits":
    """Makes `logits_fn(image [h, w, C], *arguments) -> [h, w, K]`, float32 NumPy (Isensee et al. 2021, version 2.8.1 of the code).

    An image smaller than the patch is padded with zeros, the odd pixel below and to the right, and the answer cropped again. Each
    tile's logits are the mean over all combinations of mirrored axes, mirrored back; each pixel's the Gaussian-weighted mean over
    the tiles that hold it (a pixel of a single tile: that tile's, bit for bit). Softmax and arg-max are the caller's, after a mean
    over folds where there are any.

    Tiles go through in batches of one size, the last filled up, so there is one compilation whatever the images' sizes.
    `logits_fn.many(images, *arguments)` gives a list, and `logits_fn.each` the same one at a time; there tiles of different images
    share batches.

    Args:
      network_fn: (tiles [n, *patch, C] float32, *arguments) -> logits [n, *patch, K]; it must treat the n alike and apart. `arguments`,
        parameters say, are arguments of the compiled program: folds and epochs share it. Mirrored tiles go in at one time.
      patch: (H, W) of a tile.
      mirror: axes that may be mirrored, of "rows" (upside down) and "columns"; () for none.
      batch: tiles at a time; n is `batch` times 1, 2 or 4 for the mirrors.
      share: largest step between tiles, as a share of the patch.
      jit: (function of tiles and arguments) -> its compiled form, which is given NumPy tiles; None for jax.jit on the first device.

    Raises: ValueError for an unknown or repeated axis, batch < 1, images that are not [h, w, C], or an answer of another size.

    Known values: where network_fn returns its input, so does logits_fn, up to rounding.
    """
    return TiledLogits(network_fn, tuple(patch), tuple(mirror), batch, share, jit or _jit)


class TiledLogits:
    """See `make_logits`."""

    def __init__(self, network_fn, patch, mirror, batch, share, jit):
        if len(set(mirror)) < len(mirror) or not set(mirror) <= set(AXES):
            raise ValueError(f"mirror: found {mirror}, allowed are 'rows' and 'columns', each once")
        if batch < 1:
            raise ValueError(f"batch is {batch}; at least 1 tile goes through at a time")
        self.patch, self.batch, self.share = patch, batch, share
        self.weights = gaussian(patch)[..., None]
        self._network = jit(_mirrored(network_fn, [AXES[name] for name in mirror]))

    def __call__(self, image, *arguments) -> np.ndarray:
        return self.many([image], *arguments)[0]

    def many(self, images: Iterable, *arguments) -> list[np.ndarray]:
        return list(self.each(images, *arguments))

    def each(self, images: Iterable, *arguments) -> Iterator[np.ndarray]:
        """Logits in the images' order; an image is read when its tiles are due and forgotten when they are back."""
        waiting: deque[_Canvas] = deque()
        tiles: list[tuple[_Canvas, int, int]] = []
        flying = None
        for image in images:
            waiting.append(_Canvas(image, self.patch, self.share))
            for y, x in waiting[-1].places:
                tiles.append((waiting[-1], y, x))
                if len(tiles) == self.batch:  # the next batch starts before the last is waited for
                    flying, landing = (tiles, self._start(tiles, arguments)), flying
                    self._land(landing)
                    tiles = []
            while waiting and waiting[0].missing == 0:
                yield waiting.popleft().mean()
        self._land(flying)
        if tiles:
            self._land((tiles, self._start(tiles, arguments)))
        yield from (canvas.mean() for canvas in waiting)

    def _start(self, tiles, arguments):
        height, width = self.patch
        cut = [canvas.image[y : y + height, x : x + width] for canvas, y, x in tiles]
        return self._network(np.stack(cut + cut[-1:] * (self.batch - len(cut))), *arguments)

    def _land(self, flying):
        if flying is not None:
            tiles, logits = flying
            for (canvas, y, x), tile in zip(tiles, jax.device_get(logits), strict=False):  # what filled the batch up is left over
                canvas.add(tile, y, x, self.weights)


class _Canvas:
    """One image on its way: padded, with the weighted sum of what has come back."""

    def __init__(self, image, patch, share):
        image = np.asarray(image, np.float32)
        if image.ndim != 3:
            raise ValueError(f"an image [h, w, C] expected: found shape {image.shape}")
        lack = [max(p - n, 0) for n, p in zip(image.shape, patch, strict=False)]
        self.inside = tuple(slice(d // 2, d // 2 + n) for n, d in zip(image.shape, lack, strict=False))
        self.image = np.pad(image, [(d // 2, d - d // 2) for d in lack] + [(0, 0)]) if any(lack) else image
        rows, columns = (tile_starts(n, p, share) for n, p in zip(self.image.shape, patch, strict=False))
        self.places = [(y, x) for y in rows for x in columns]
        self.missing, self.sum, self.weight = len(self.places), None, None

    def add(self, tile, y, x, weights):
        height, width = weights.shape[:2]
        if tile.shape[:2] != (height, width):
            raise ValueError(f"network_fn answered tiles of {height} x {width} with {tile.shape[0]} x {tile.shape[1]}")
        self.missing -= 1
        if len(self.places) == 1:
            self.sum = tile
            return
        if self.sum is None:
            self.sum = np.zeros((*self.image.shape[:2], tile.shape[-1]), np.float32)
            self.weight = np.zeros((*self.image.shape[:2], 1), np.float32)
        self.sum[y : y + height, x : x + width] += tile * weights
        self.weight[y : y + height, x : x + width] += weights

    def mean(self):
        return (self.sum if self.weight is None else self.sum / self.weight)[self.inside]


def _mirrored(network_fn, axes):
    flips = [chosen for n in range(len(axes) + 1) for chosen in combinations(axes, n)]

    def run(tiles, *arguments):
        # Beside each tile its mirrored ones, so that a batch split over devices stays split, and the network is compiled once.
        seen = jnp.stack([jnp.flip(tiles, chosen) for chosen in flips], axis=1)
        logits = network_fn(seen.reshape(-1, *tiles.shape[1:]), *arguments).astype(jnp.float32)
        logits = logits.reshape(len(tiles), len(flips), *logits.shape[1:])
        return sum(jnp.flip(logits[:, i], chosen) for i, chosen in enumerate(flips)) / len(flips)

    return run


def _jit(function):
    compiled = jax.jit(function)
    return lambda tiles, *arguments: compiled(jax.device_put(tiles), *arguments)
