"""What pretraining was told and what it made of it: the pair weights of one batch, and the embeddings in two dimensions."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from scipy.sparse.csgraph import connected_components

from uscl.report.figures import INK, MUTED, SERIES, Panel
from uscl.report.folder import Missing

MAP = "cividis"  # even to the eye, and the same to colour-blind ones
POSITION = ListedColormap(colormaps[MAP](np.linspace(0.25, 1, 256)))  # without its darkest part, which a dark page swallows
COLOURED = len(SERIES)  # cines with a colour of their own
LEAST = 0.04  # of a matrix's side, for a name beside it


def weights(folder, easel):
    config = folder.config
    planes = "anatomy" in (config.get("stages") or ())
    how = config.get("anatomy") or {}
    if planes and how.get("method") == "uscl":
        return {"text": "USCL attracts the two frames mixed from one cine, and repels those of all other cines.", "blocks": []}
    blocks, lacking = [], []
    for stage in ("anatomy",) if planes else ("encoder", "decoder"):
        try:
            found = folder.arrays(f"{stage}/pairs.npz", "weights", "positive", "negative", "cine", "frame")
        except Missing as error:
            lacking.append({"kind": "missing", "text": str(error)})
            continue
        order, part, called = np.lexsort((found["frame"], found["cine"])), found["cine"], None
        if planes:
            order, part, called = parted(found["weights"], found["cine"], found["frame"])
        names = {"weights": "resemblance" if planes else "temporal weights", "positive": "attracts", "negative": "repels"}
        blocks.append({"kind": "heading", "text": stage, "note": f"{len(order)} frames of {len(np.unique(found['cine']))} cines"})
        if "negative_last" in found:  # a curriculum admits a cine's own frames by and by
            names |= {"negative": "repels at the first step", "negative_last": "repels at the last step"}
        panels = [_matrix(found[key], part, order, name, called) for key, name in names.items()]
        blocks.append(easel.block(f"pairs-{stage}", panels, columns=3 if len(panels) == 3 else 2))
    if not blocks:
        raise Missing("; ".join(block["text"] for block in lacking))
    rows = "stills that show the same together, the others, then sweeps by cine and time" if planes else "sorted by cine and time"
    text = (
        f"Rows are anchors, {rows}; lines part {'them' if planes else 'the cines'}. A training step attracts and repels by the second "
        "and third matrix, in which all first views stand before all second views."
    )
    return {"text": text + (_known(how.get("ratio", 1)) if planes else ""), "blocks": blocks + lacking}


def _known(ratio):
    """How many labels the matrices know, as far as they do not know them all."""
    if ratio == 1:
        return ""
    kept = f"each label is known with a probability of {ratio:g}" if ratio else "no label is known"
    return f" Here, as anew in every step, {kept}; a still without one attracts its own other view alone."


def parted(weights, cine, frame):
    """Order [N] of the rows of a batch of stills and sweeps, the part [N] each belongs to, and {part: what it is called}.

    First come frames of several cines that attract each other, directly or by others between them, the largest such part first; then the
    cines with a single frame; then the other cines. Within a part rows go by cine and time.
    """
    group = connected_components(weights > 0, directed=False)[1]
    size, frames = np.bincount(group)[group], (cine[:, None] == cine).sum(1)
    several = ((group[:, None] == group) & (cine[:, None] != cine)).any(1)
    alone, n = ~several & (frames == 1), len(cine)
    part = np.where(several, group, np.where(alone, n, n + 1 + cine))
    called = {int(p): f"{size[k]} alike" if several[k] else "alone" if alone[k] else f"cine {cine[k]}" for k, p in enumerate(part)}
    return np.lexsort((frame, cine, part, np.where(several, -size, 0))), part, called


def _matrix(matrix, cine, order, name, called=None):
    """A matrix with its rows in `order`, parted where `cine` changes; called: {part: its name} in place of the cines' numbers."""
    tiles = max(1, len(matrix) // len(order))  # views are tiled view by view
    everything = np.concatenate([order + view * len(order) for view in range(tiles)])
    if len(everything) != len(matrix):
        everything = np.arange(len(matrix))
    cines = np.tile(cine[order], tiles)
    borders = np.flatnonzero(np.diff(cines)) + 0.5

    def draw(axes):
        image = axes.imshow(matrix[np.ix_(everything, everything)], cmap=MAP, vmin=0, vmax=1, interpolation="none")
        if len(cines) == len(matrix):
            axes.hlines(borders, -0.5, len(matrix) - 0.5, color="white", linewidth=0.5, alpha=0.7)
            axes.vlines(borders, -0.5, len(matrix) - 0.5, color="white", linewidth=0.5, alpha=0.7)
            starts = np.concatenate([[-0.5], borders, [len(matrix) - 0.5]])
            shown = cines[(starts[:-1] + 0.5).astype(int)]
            if called:  # by texts, of which those of thin parts would lie over each other
                thick = np.diff(starts) > LEAST * len(matrix)
                shown = [called[part] if room else "" for part, room in zip(shown.tolist(), thick, strict=True)]
            axes.set_yticks((starts[1:] + starts[:-1]) / 2, shown)
            axes.set_ylabel("" if called else "cine")
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        bar = axes.figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.6, aspect=30, pad=0.02, ticks=[0, 0.5, 1])
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)

    share = np.mean(matrix > 0)
    return Panel(draw, name, f"{name}: a {len(matrix)} x {len(matrix)} matrix, {share:.0%} above 0", width=2.8, height=2.75)


def embedding(folder, easel):
    found = folder.arrays("evaluate/embedding.npz", "z", "cine", "frame")
    z, cine, frame = np.asarray(found["z"], float), found["cine"], found["frame"]
    if z.ndim != 2 or len(z) < 3 or not np.isfinite(z).all():
        raise Missing("evaluate/embedding.npz: z must be [n, D] with n of 3 or more, and finite")
    flat, share = principal(z)
    sizes = dict(zip(*np.unique(cine, return_counts=True), strict=True))
    shown = sorted(sorted(sizes, key=lambda c: -sizes[c])[:COLOURED])
    place = np.zeros(len(z))
    for c in sizes:
        mine = cine == c
        place[mine] = (frame[mine] - frame[mine].min()) / max(1, np.ptp(frame[mine]))

    def frame_axes(axes):
        axes.set_xlabel(f"component 1, {share[0]:.0%} of the variance")
        axes.set_ylabel(f"component 2, {share[1]:.0%}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")

    def by_cine(axes):
        for c in sizes:
            path = np.flatnonzero(cine == c)
            path = path[np.argsort(frame[path], kind="stable")]
            colour = SERIES[shown.index(c)] if c in shown else MUTED
            axes.plot(*flat[path].T, "-o", color=colour, markersize=2.6, linewidth=0.8, alpha=1 if c in shown else 0.35, markeredgewidth=0)
            if c in shown:
                axes.plot(*flat[path[0]], "o", markersize=6, markeredgecolor=colour, markerfacecolor="none", markeredgewidth=1.2)
        frame_axes(axes)

    def by_place(axes):
        points = axes.scatter(*flat.T, c=place, cmap=POSITION, s=12, vmin=0, vmax=1, linewidths=0.3, edgecolors=MUTED)
        bar = axes.figure.colorbar(points, ax=axes, ticks=[0, 1], shrink=0.7, aspect=25)
        bar.ax.set_yticklabels(["first", "last"])
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        frame_axes(axes)

    legend = [("dot", SERIES[k], f"cine {c}") for k, c in enumerate(shown)] + [("ring", INK, "first frame")]
    legend += [("speck", MUTED, f"{len(sizes) - len(shown)} more cines")] if len(sizes) > len(shown) else []
    panels = [
        Panel(by_cine, "by cine, joined in time order", f"{len(z)} embeddings of {len(sizes)} cines", height=3.3),
        Panel(by_place, "by position in the cine", "the same points, coloured from first to last frame", height=3.3),
    ]
    text = (
        f"{len(z)} frames of {len(sizes)} cines. Embeddings of length 1, as cosine similarity sees them, centred, on the two of "
        f"{z.shape[1]} directions in which they vary most."
    )
    return {"text": text, "blocks": [easel.block("embedding", panels, legend=legend)]}


def principal(z):
    """The first two principal components of unit vectors [n, 2], and their shares of the variance [2], by SVD.

    The sign of a component is free; here its largest entry is positive, so that a report drawn again looks the same.
    """
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    left, size, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    left, size = np.pad(left, ((0, 0), (0, 2)))[:, :2], np.pad(size, (0, 2))
    score = left * size[:2]
    score *= np.where(score[np.abs(score).argmax(0), [0, 1]] < 0, -1, 1)
    return score, size[:2] ** 2 / max(np.sum(size**2), 1e-30)
