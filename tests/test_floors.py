"""The house: imports go down only, data knows no JAX, one file knows Orbax, Flax lives in the models."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path.relative_to(ROOT) for top in ("uscl", "launch", "configs") for path in (ROOT / top).rglob("*.py"))
FLOORS = {"config": 0, "types": 0, "data": 1, "train": 2, "stages": 3, "study": 3, "report": 3, "command": 3}


def floor(parts):
    if parts[0] != "uscl":
        return 4
    return FLOORS.get(parts[1], 1) if len(parts) > 1 else 0


def imported(path):
    """Dotted names of all modules a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    return [name.split(".") for name in imported(path) if name.split(".")[0] in ("uscl", "launch", "configs")]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down_only(path):
    mine = floor(path.with_suffix("").parts)
    for parts in ours(path):
        assert floor(parts) <= mine, f"{path} stands on floor {mine} and imports {'.'.join(parts)}"
        if path.parts[0] == "configs":
            assert parts[:2] == ["uscl", "config"], f"{path}: a config says what differs from uscl.config, nothing else"


@pytest.mark.parametrize("path", [p for p in FILES if floor(p.with_suffix("").parts) == 1], ids=str)
def test_arithmetic_and_data_do_not_know_each_other(path):
    is_data = path.parts[1] == "data"
    for parts in ours(path):
        if len(parts) > 1 and floor(parts) == 1:
            assert (parts[1] == "data") == is_data, f"{path} imports {'.'.join(parts)}"
    if is_data:
        assert not [n for n in imported(path) if n.split(".")[0] in ("jax", "flax", "optax", "orbax")], f"{path}: data is NumPy"


@pytest.mark.parametrize(
    "library,room",
    [("orbax", "uscl/train/checkpoint.py"), ("flax", "uscl/models/"), ("pickle", "nowhere"), ("tensorflow", "nowhere")])
def test_each_library_has_its_room(library, room):
    users = {p.as_posix() for p in FILES if any(n.split(".")[0] == library for n in imported(p))}
    assert all(user.startswith(room) for user in users), users


@pytest.mark.parametrize("path", [p for p in FILES if floor(p.with_suffix("").parts) < 3 and p.parts[:2] != ("uscl", "config")], ids=str)
def test_configurations_stay_upstairs(path):
    assert not [n for n in imported(path) if n.startswith("ml_collections") or n.startswith("uscl.config")], path
