"""Annotation files that lie: JSON and tables of another shape than their programs write."""

import copy
import csv
import io
import json

TEXTS = ("", "0", "-1", "3.7", "1e400", "nan", "abc", " ", "9" * 5_000, "\0", '"', "\n", "x" * 200_000, "[" * 20_000, "\u00e4", "=1+1")
NONSENSE = (None, True, -1, 0, 1, 1e308, float("nan"), float("-inf"), 10**30, 2**31, 2**63, "", "nonsense", "1", "\0", "../../a.png", [],
            {}, [[]], [1], [1, 2], [None, None], {"a": {}}, [0] * 100_000, "9" * 100_000, "@deep", "@long")  # fmt: skip


def lie_json(data: bytes, _, rng) -> bytes:
    """A value anywhere in the tree that is something else, or gone, or there twice."""
    tree = json.loads(data)
    node = {"": tree}
    place = ""
    while rng.random() < 0.85 and isinstance(node[place], dict | list) and node[place]:
        node = node[place]
        place = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    if rng.random() < 0.15:
        del node[place]
    elif rng.random() < 0.15 and isinstance(node, list):
        node.append(copy.deepcopy(node[place]))
    else:
        node[place] = rng.choice(NONSENSE)
    text = json.dumps(node.get("") if isinstance(node, dict) and "" in node else tree)
    return (
        text.replace('"@deep"', "[" * 20_000 + "]" * 20_000)
        .replace('"@long"', "9" * 5_000)
        .encode(rng.choice(("utf-8",) * 18 + ("utf-8-sig", "utf-16")))
    )


def lie_csv(data: bytes, _, rng) -> bytes:
    """A cell that says something else, a column that is gone, or one of its cells' JSON that lies."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = rng.choice(rows)
    cell = rng.randrange(len(row))
    if rng.random() < 0.4:
        row = rng.choice(rows[1:])
        cell = rng.choice([i for i, text in enumerate(row) if text.startswith("{")])
        row[cell] = lie_json(row[cell].encode(), "", rng).decode()
    elif rng.random() < 0.2:
        rows = [r[:cell] + r[cell + 1 :] for r in rows]
    else:
        row[cell] = rng.choice(TEXTS)
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode(rng.choice(("utf-8",) * 18 + ("utf-8-sig", "latin-1", "utf-16")), "replace")


def scribbled(source, random):
    """Up to three bytes written over, some of them with what numbers and texts are made of; and sometimes the end is cut off."""
    damaged = bytearray(source)
    for at in random.integers(0, len(damaged), random.integers(0, 4)):
        damaged[at] = random.choice([random.integers(256), ord("9"), ord('"'), ord("e"), ord("-")])
    return bytes(damaged[: random.integers(len(damaged)) if random.random() < 0.3 else None])
