"""Recipes for public sets: what their folders and tables mean, one function each.

A new recipe is one function and one line below.
"""

from collections.abc import Callable
from pathlib import Path

from uscl.data.items import Listing
from uscl.data.recipes import breast, fetal, heart, kidney, lung


def _nnunet(root: Path) -> Listing:
    """An nnU-Net dataset as it is published: dataset.json, imagesTr, labelsTr, its test images and the first of its folds."""
    from uscl.data import nnunet  # here, because it writes stores as well, which a list of recipes needs not

    return nnunet.read(root)


RECIPES: dict[str, Callable[[Path], Listing]] = {
    "busi": breast.busi,
    "camus": heart.camus,
    "covidx": lung.covidx,
    "echonet": heart.echonet,
    "fetal_planes": fetal.fetal_planes,
    "hc18": fetal.hc18,
    "nnunet": _nnunet,
    "open_kidney": kidney.open_kidney,
    "pocus": lung.pocus,
}


def describe(name: str) -> str:
    """One line on a recipe, for a list of them."""
    return RECIPES[name].__doc__.partition("\n")[0]
