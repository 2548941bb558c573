"""Numbers in words: formats, the protocol and the environment as lists, the counts of the data."""


def figure(value, digits=3):
    """A number as text; a dash where there is none. `figure(0.7123)` is "0.712", `figure(0.00042)` "0.00042", `figure(nan)` "–"."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    small = 0 < abs(value) < 10.0**-digits  # fixed digits would print it as nothing
    return (f"{value:.2g}" if small else f"{value:.{digits}f}").replace("-", "\N{MINUS SIGN}")


def duration(seconds):
    """`duration(280)` is "4 min 40 s", `duration(7300)` is "2 h 1 min", with spaces that do not break."""
    seconds = round(seconds)
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    said = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return said.replace(" ", "\N{NO-BREAK SPACE}")


def plural(count, noun, ending="s"):
    """`plural(1, "image")` is "1 image", `plural(2000, "image")` is "2,000 images"."""
    return f"{count:,} {noun}" + ("" if count == 1 else ending)


def flat(nested, prefix=""):
    """A nested dict as {"a.b.c": text}, in order."""
    found = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = spoken(value)
    return found


def spoken(value):
    if isinstance(value, list | tuple):
        return ", ".join(spoken(item) for item in value) or "none"
    return "–" if value is None or value in ("", {}) else str(value)


def groups(nested, alone="run"):
    """A nested dict as named lists: one for each block of the top level, its loose entries first under `alone`."""
    loose = {key: value for key, value in nested.items() if not isinstance(value, dict)}
    found = [{"name": alone, "rows": flat(loose)}] if loose else []
    return found + [{"name": key, "rows": flat(value)} for key, value in nested.items() if isinstance(value, dict) and value]


def crossed(nested):
    """The first dict of dicts in `nested` as a table, and what is left: ({"head", "rows"} or None, rest)."""
    for key, value in nested.items():
        if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
            columns = list(dict.fromkeys(name for row in value.values() for name in row))
            rows = [[name, *(spoken(row.get(column)) for column in columns)] for name, row in value.items()]
            return {"head": [key, *columns], "rows": rows}, {k: v for k, v in nested.items() if k != key}
        if isinstance(value, dict):
            table, rest = crossed(value)
            if table:
                return table, {k: v for k, v in nested.items() if k != key} | rest
    return None, nested


# Blocks of the configuration that only these stages read.
READERS = {
    "encoder": ("encoder",), "decoder": ("decoder",), "temporal": ("encoder", "decoder"), "finetune": ("finetune", "nnunet"),
    "nnunet": ("nnunet",), "evaluate": ("evaluate", "classify", "saliency", "planes"),
    "anatomy": ("anatomy", "planes"), "planes": ("planes",),
    "video": ("video", "classify", "saliency"), "classify": ("video", "classify", "saliency"), "saliency": ("saliency",),
}  # fmt: skip


def protocol(folder, easel):
    stages = folder.config.get("stages")
    used = {key: value for key, value in folder.config.items() if not stages or set(stages) & set(READERS.get(key, stages))}
    return {"text": "Every setting the run used, as config.json holds it.", "blocks": [{"kind": "groups", "groups": groups(used)}]}


def environment(folder, easel):
    return {
        "text": "Where the run took place, as environment.json holds it.",
        "blocks": [{"kind": "groups", "groups": groups(folder.json("environment.json"), alone="machine")}],
    }
