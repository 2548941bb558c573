"""The knobs of the stage `anatomy`: a ResNet pretrained on stills whose plane is known and frames of sweeps whose planes are not."""

from dataclasses import replace

from uscl.config.rules import TEXT, Knob, each, integer, number, one_of
from uscl.config.video import SHARE

PROBABILITY = number(0, 1)
METHODS = ("awcl", "uscl")


def knobs(views: dict[str, Knob]) -> dict[str, Knob]:
    """The table; `views` are the knobs of the contrastive stages' views, of which AWCL's code has crop, flip and grey values."""
    plain = {name: replace(views[name], paper=0.0) for name in ("gamma", "attenuation", "gain", "shadow", "haze", "speckle")}
    views = views | plain | {
        "crop": replace(views["crop"], paper="random"), "smallest": replace(views["smallest"], quick=0.3, paper=0.08),
        "brightness": replace(views["brightness"], paper=0.4), "contrast": replace(views["contrast"], paper=0.4),
        "flip": replace(views["flip"], paper=0.5),
    }  # fmt: skip
    return {
        "anatomy.method": Knob("awcl", one_of(*METHODS), "frames of one anatomy attract; or USCL's mixed frames, a cine an item"),
        "anatomy.depth": Knob(18, one_of(18, 50), "layers of the ResNet"),
        "anatomy.width": Knob(16, integer(1), "channels of its stem; 8 times as many come out of ResNet-18, 32 times of -50", 64),
        "anatomy.hidden": Knob(512, integer(1), "hidden units of the projector"),
        "anatomy.features": Knob(128, integer(2), "dimensions of the projection; USCL has 256"),
        "anatomy.steps": Knob(200, integer(1), "optimiser steps", 20000),
        "anatomy.batch": Knob(32, integer(1), "awcl: frames a step; uscl: cines a step, three frames each"),
        "anatomy.share": Knob(0.5, PROBABILITY, "least share of the batch that are stills with a plane; the rest are of sweeps"),
        "anatomy.frames": Knob(4, integer(1), "awcl: frames of a sweep and step"),
        "anatomy.reach": Knob(0, integer(0), "awcl: they lie within so many frames that follow one another; 0: anywhere in the sweep"),
        "anatomy.level": Knob("fine", one_of("fine", "coarse"), "which labels make frames attract: those of column or those of coarse"),
        "anatomy.column": Knob("plane", TEXT, "column of attributes.csv with the fine label; 'a+b' joins two"),
        "anatomy.coarse": Knob("anatomy", TEXT, "column with the coarse label, one for all views of an anatomy"),
        "anatomy.ignore": Knob(("background", "Other", "Other+Not A Brain"), each(TEXT), "texts in it that are no anatomy"),
        "anatomy.ratio": Knob(1.0, PROBABILITY, "probability r with which a label is kept each time; 0 is SimCLR"),
        "anatomy.near.kind": Knob("none", one_of("none", "binary", "linear"), "awcl: frames near in time attract too; none: they don't"),
        "anatomy.near.margin": Knob(2.0, number(0), "binary: largest distance of a positive pair [frames]"),
        "anatomy.near.horizon": Knob(0.0, number(0), "linear: distance at which the weight reaches 0 [frames]; 0: the sweep's length"),
        "anatomy.label_weight": Knob(0.4, number(0), "uscl: weight of the labels' cross-entropy; 0.4 is 0.2 for either sample"),
        "anatomy.temperature": Knob(0.5, number(0.001, 100), "temperature of the contrast"),
        "anatomy.learning_rate": Knob(1e-3, SHARE, "Adam's rate"),
        "anatomy.weight_decay": Knob(1e-6, number(0), "times the weights, added to the gradient (L2)"),
        "anatomy.schedule": Knob("cosine", one_of("constant", "cosine"), "the rate over the stage", "constant"),
        "anatomy.look_every": Knob(50, integer(1), "steps between two looks at what the features know of planes.column", 1000),
        **{f"anatomy.views.{name}": knob for name, knob in views.items()},
    }
