"""What `prepare` has done, as lines for the terminal."""

from typing import Any

MOST_TOLD = 20  # rejected files listed


def describe(summary: dict[str, Any], *, table: str) -> str:
    """`summary` as from `uscl.data.prepare.prepare`; table: where all the rejected are listed."""
    new = "" if summary["new"] == summary["recordings"] else f" ({summary['new']} of them new)"
    lines = [f"{summary['recordings']} recordings{new} of {summary['patients']} patients, {summary['frames']} frames"]
    shown = ", ".join(f"{name} {n}" for name, n in summary["per_class"].items())
    without = "; such a store is for pretraining, and for classes that attributes.csv tells"
    lines.append(f"{summary['labelled']} labelled frames" + (f": {shown}" if shown else without))
    for name, values in summary["classes"].items():
        if inside := [other for other, those in summary["classes"].items() if other != name and set(those) < set(values)]:
            lines.append(f"  {name} contains {', '.join(inside)}")
    if summary["guessed"]:
        told = "the patient of {} recordings is known by the file's name alone; where patients have several, give --patients"
        lines.append(told.format(summary["guessed"]))
    parts = {part: names for part, names in summary["splits"].items() if part != "folds"}
    lines.append("patients: " + ", ".join(f"{part} {len(names)}" for part, names in parts.items()))
    if folds := summary["splits"].get("folds"):
        lines.append(f"folds of {', '.join(str(len(fold)) for fold in folds)} patients")
    lines.append(f"{summary['rejected']} rejected, {summary['noted']} kept with a remark" + (f", see {table}" if summary["table"] else ""))
    lines += [f"  {name}: {reason}" for name, reason in summary["table"][:MOST_TOLD]]
    if (more := len(summary["table"]) - MOST_TOLD) > 0:
        lines.append(f"  and {more} more")
    if summary["ignored"]:
        lines.append(f"{len(summary['ignored'])} files without a reader, such as {summary['ignored'][0]}")
    return "\n".join(lines)
