"""How the study was done: what departs from the papers and why, its seeds and versions, the time and the energy it took."""

import json

from markupsafe import Markup

from uscl.config import default, flatten
from uscl.config.knobs import KNOBS
from uscl.report.folder import Missing
from uscl.report.tables import duration, figure, plural, spoken

WORDS = Markup('<span style="display: block; min-width: 15em; text-align: left; white-space: normal">{}</span>')
# What the two kidney papers say of their own protocol, and no knob of ours does.
PAPERS = {
    "recordings": "7,000 unlabelled cines of about 200 frames, from one hospital",
    "labelled frames": "514, split 80 to 20; whether by patient is not said",
    "runs of each model": "1, without intervals",
    "hardware": "1 NVIDIA V100, 32 GB",
    "distance of the speckle loss": "printed without squares under the root, so that it may have no value",
}
# First match counts: the beginning of a knob's name, and why it may differ from the papers' value.
WHY = (
    ("data.size", "smaller frames, for time"), ("data.test", "more patients to test on, for narrower intervals"),
    ("encoder.steps", "fewer steps, for time"), ("decoder.steps", "fewer steps, for time"), ("finetune.steps", "fewer steps, for time"),
    ("nnunet.epochs", "fewer steps, for time"), ("nnunet.iterations", "fewer steps, for time"),
    ("nnunet.", "a smaller nnU-Net, for time"), ("model.width", "a smaller network, for time"),
    ("model.bn_momentum", "the papers' running mean is too slow for so few steps"),
    ("model.", "another network than the papers'"),
    ("encoder.pairs.", "the papers' partition rule does not leave chance in so few steps"),
    ("encoder.views.", "the papers' views leave chance too slowly in so few steps"),
    ("decoder.views.", "with views of intensity alone, position gives the answer away"),
    ("decoder.", "the papers' choice is solved by position alone in so few steps"),
    ("finetune.augment.right_angles", "no ultrasound image survives such turns"),
    ("finetune.", "chosen for so few steps"), ("encoder.", "chosen for so few steps"),
)  # fmt: skip
PHANTOM = ("data.size", "data.test")  # the other knobs of the phantom have no counterpart in the papers; `facts` counts what there is
IGNORED = ("experiment", "scale", "seed", "stages", "start", "data.", "log.", "evaluate.", "temporal.", "finetune.label_fraction",
           "finetune.loss.speckle", "nnunet.loss.speckle", "finetune.speckle", "finetune.validate", "nnunet.validate")  # fmt: skip


def section(study, easel):
    """The protocol: facts against the papers', every knob that is not the papers', seeds and experiments."""
    if not study.runs:
        raise Missing("no run has begun")
    blocks = [
        {"kind": "heading", "text": "Against the papers", "note": ""},
        {"kind": "table", "table": {"head": ["what", "papers", "here and why"], "rows": facts(study)}, "strong": False, "prose": True},
    ]
    rows = [[key, spoken(theirs), f"{spoken(mine)}: {why}"] for key, theirs, mine, why in deviations(study)]
    note = "config.json of the runs, held against the papers' values in uscl.config; what an experiment changes on purpose is not listed"
    blocks.append({"kind": "heading", "text": "Settings that are not the papers'", "note": plural(len(rows), "setting")})
    if rows:
        head = ["setting", "papers", "here and why"]
        blocks.append({"kind": "table", "table": {"head": head, "rows": rows}, "strong": False, "prose": True})
    return {
        "text": "What was done as the papers did it, what was not, and why.",
        "blocks": blocks,
        "notes": [note + "."],
    }


def facts(study):
    """[what, the papers', ours and why]: what no knob tells."""
    data = next(iter(study.json("data.json")), {})
    splits = data.get("splits", {})
    count = lambda key: sum(part.get(key, 0) for part in splits.values())  # noqa: E731
    seeds = sorted({run.seed for run in study.runs})
    phantom = "phantom" in str(data.get("origin", "phantom"))
    where = "of the embedded phantom: the hospital's recordings are not public" if phantom else f"of the store ({data['origin']})"
    machines = sorted({machine(entry) for entry in study.json("environment.json")})
    labelled = ", ".join(f"{figure(part.get('labelled', 0))} for {name}" for name, part in splits.items())
    recorded = f"{plural(count('cines'), 'cine')} of {plural(count('patients'), 'patient')}, {plural(count('frames'), 'frame')}"
    mine = {
        "recordings": f"{recorded}, {where}",
        "labelled frames": f"{labelled}; a patient lies in one part",
        "runs of each model": f"{plural(len(seeds), 'seed')} ({spoken(seeds)}), because two runs of one model differ by more than the "
        "papers' effects; intervals resample patients",
        "hardware": "; ".join(machines) or "not noted",
        "distance of the speckle loss": "the root of the sum of the squared differences, as its text says",
    }
    if not splits:
        mine["recordings"] = mine["labelled frames"] = "not noted"
    return [[what, WORDS.format(theirs), mine[what]] for what, theirs in PAPERS.items()]


def deviations(study):
    """[(knob, the papers' value, ours, why)] of all knobs in which the runs do not follow the papers.

    A knob in which the runs differ from one another is an experiment's switch; of those the most frequent value counts.
    """
    found = [flatten(config) for config in study.json("config.json")]
    phantom = "phantom" in str(next(iter(study.json("data.json")), {}).get("origin", "phantom"))
    papers = flatten(default("paper"))
    rows = []
    for key in KNOBS:
        if key.startswith(IGNORED) and not (phantom and key in PHANTOM):
            continue
        values = [told(flat[key]) for flat in found if key in flat and used(key, flat)]
        if not values:
            continue
        mine = max(sorted(set(values)), key=values.count)
        if mine != told(papers[key]):
            rows.append((key, papers[key], json.loads(mine), next((why for begin, why in WHY if key.startswith(begin)), "chosen here")))
    return rows


def used(key, flat):
    """Whether a run with these settings has the stage that the knob belongs to, or the knob belongs to none."""
    block = key.split(".")[0]
    return block not in ("encoder", "decoder", "finetune", "nnunet") or block in flat.get("stages", ())


def told(value):
    """A value as JSON, so that a tuple of a default and a list of a file are the same."""
    return json.dumps(value)


def machine(environment):
    devices = environment.get("devices", {})
    kind = devices.get("kind", "unknown device")
    return f"{plural(devices.get('count', 1), 'device')} ({kind}), {plural(environment.get('cpus') or 0, 'CPU core')}"


def spent(study, easel):
    """Time of each stage, over all runs, and what is known of the energy."""
    kinds, cpu = _added(study, "timing.json"), _added(study, "cpu.json")
    if not kinds:
        raise Missing("no timing.json was written")
    told = lambda stage: duration(cpu[stage][1]) if stage in cpu else "–"  # noqa: E731
    rows = [[stage, figure(n), duration(t / n), duration(t), told(stage)] for stage, (n, t) in kinds.items()]
    wall, work = (sum(t for _, t in entry.values()) for entry in (kinds, cpu))
    rows.insert(0, ["all stages", "", "", duration(wall), duration(work) if cpu else "–"])
    asked, made = study.sharing()
    energy = {"CPU time": _worked(work, cpu, kinds) if cpu else "not measured", "energy": "not measured: no counter of joules is read"}
    if asked:
        energy["pretraining stages"] = f"{figure(made)} run for {figure(asked)} that the runs ask for"
    return {
        "text": "Wall-clock time, added up over all runs; runs side by side count each.",
        "blocks": [
            {"kind": "facts", "facts": energy},
            {"kind": "table", "table": {"head": ["stage", "runs", "mean", "in all", "CPU time"], "rows": rows}, "strong": True},
        ],
    }


def _added(study, name):
    """{stage: (runs, seconds of all of them)} from one file of every run and pretraining that has it."""
    kinds = {}
    for seconds in study.json(name):
        for stage, value in seconds.items():
            if isinstance(value, int | float) and value == value:
                runs, total = kinds.get(stage, (0, 0.0))
                kinds[stage] = runs + 1, total + value
    return kinds


def _worked(seconds, cpu, kinds):
    """CPU time, and of how many stages, where not of all: those run before cpu.json was written have none."""
    have, all_of_them = (sum(n for n, _ in entry.values()) for entry in (cpu, kinds))
    return duration(seconds) + (f", of {figure(have)} of {figure(all_of_them)} stages" if have < all_of_them else "")


def versions(study, easel):
    """The software of all runs; a package of which several versions took part has them all."""
    found, environments = {}, study.json("environment.json")
    for entry in environments:
        for name, version in {"python": entry.get("python"), **entry.get("packages", {})}.items():
            if version and version not in found.setdefault(name, []):
                found[name].append(version)
    if not found:
        raise Missing("no environment.json was written")
    mixed = [name for name, several in found.items() if len(several) > 1]
    facts = {name: " and ".join(several) for name, several in found.items()}
    checksums = sorted({entry.get("store", {}).get("checksum", "") for entry in environments} - {""})
    if checksums:
        facts["data, checksum"] = " and ".join(checksums)
    notes = [f"Runs differ in {spoken(mixed)}: figures from different versions may differ in their last digits."] if mixed else []
    return {"text": "As environment.json of the runs holds it.", "blocks": [{"kind": "facts", "facts": facts}], "notes": notes}
