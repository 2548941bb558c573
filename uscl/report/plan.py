"""What nnU-Net planned for itself: the network stage by stage, how its frames were changed, and which post-processing came out."""

from uscl.report.folder import Missing
from uscl.report.tables import figure, plural

WHERE = "nnunet/plans.json"
UNITS = {"n_conv_per_stage": "convolutions", "n_blocks_per_stage": "residual blocks"}


def section(folder, easel):
    plan, network = folder.json(WHERE), folder.json("nnunet/network.json")
    try:
        settings = plan["configurations"]["2d"]
        facts = {"network": _kind(network), **_sizes(settings, network), "augmentation": _augmentation(network)}
        blocks = [{"kind": "facts", "facts": facts}, {"kind": "table", "table": stages(settings), "strong": False}]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Missing(f"{WHERE} and nnunet/network.json do not fit together ({error!r})") from None
    blocks.append({"kind": "heading", "text": "Post-processing", "note": ""})
    try:
        found = folder.json("nnunet/postprocessing.json")
        blocks.append({"kind": "table", "table": tried(found), "strong": False})
    except Missing as error:
        blocks.append({"kind": "missing", "text": str(error)})
    except (KeyError, TypeError) as error:
        blocks.append({"kind": "missing", "text": f"nnunet/postprocessing.json is not what was decided ({error!r})"})
    return {
        "text": "The plan follows from the sizes and the number of the training frames; nnunet/plans.json holds it. A largest component is "
        "kept only where that raised the Dice of images no network had learnt from.",
        "blocks": blocks,
    }


def stages(settings):
    """The stages from the image down, one a row: {"head", "rows"}."""
    network = settings["architecture"]["arch_kwargs"]
    unit = next(key for key in UNITS if key in network)
    strides, size = network["strides"], settings["patch_size"]
    decoder = [*reversed(network["n_conv_per_stage_decoder"]), "–"]  # kept from the deepest level up; the deepest stage has none
    rows = []
    for stage, stride in enumerate(strides):
        size = [edge // step for edge, step in zip(size, stride, strict=True)]
        kernel = network["kernel_sizes"][stage]
        cells = [_by(size), network["features_per_stage"][stage], _by(kernel), _by(stride), network[unit][stage], decoder[stage]]
        rows.append([str(stage + 1), *map(str, cells)])
    return {"head": ["stage", "map, px", "features", "kernel", "stride", f"encoder, {UNITS[unit]}", "decoder, convolutions"], "rows": rows}


def tried(rules):
    """What post-processing was tried, in its order: {"head", "rows"}."""
    rows = []
    for step in rules["tried"]:
        name, adopted = f"largest component of {step['of'].replace('_', ' ')}", "yes" if step["adopted"] else "no"
        rows.append([name, figure(step["before"]), figure(step["after"]), adopted])
    return {"head": ["keep only", "Dice before", "Dice after", "adopted"], "rows": rows}


def _kind(network):
    count, heads = network["networks"], network["heads"]
    ends = f"a sigmoid for each of {plural(heads, 'region')}" if network["regions"] else f"a softmax over {plural(heads, 'label value')}"
    return f"{plural(count, 'network')} of {figure(network['parameters'])} parameters, {ends}"


def _sizes(settings, network):
    masked = settings["use_mask_for_norm"][0]
    return {
        "patch": f"{_by(settings['patch_size'])} px",
        "batch": plural(settings["batch_size"], "patch", "es"),
        "median frame": f"{_by(round(edge) for edge in settings['median_image_size_in_voxels'])} px after the crop",
        "grey values": "standardised over " + ("the pixels that are not zero" if masked else "the whole crop"),
    }


def _augmentation(network):
    turn = f"turns up to ±{network['turn']:g}°"
    if network["augmentation"] == "upright":
        return f"upright: {turn}, flips left to right, none upside down, in training and at inference"
    return f"faithful to nnU-Net: {turn}, flips of both axes, also upside down, in training and at inference"


def _by(pair):
    return " × ".join(str(n) for n in pair)
