"""The knobs of the lung paper's stages: clips that pretrain an encoder, videos that are told apart, and what the network looks at."""

from uscl.config.rules import FLAG, TEXT, Knob, each, integer, number, one_of

METHODS = ("byol", "simclr", "moco_v3", "simsiam", "barlow_twins", "vicreg")
MODES = ("random", "supervised", "features", "finetuned")
PROBABILITY = number(0, 1)
SHARE = number(0, 1, above=True)

# The paper's Table 2. What it leaves open: that all but erasing happens to every clip, one draw a clip.
VIEWS = {
    "affine.probability": Knob(1.0, PROBABILITY, "probability of turning, scaling and shifting"),
    "affine.scale": Knob(0.2, number(0, 0.9), "scale from 1 - this to 1 + this"),
    "affine.shift": Knob(0.1, PROBABILITY, "largest shift [share of the side]"),
    "affine.turn": Knob(10.0, number(0, 180), "largest turn [degrees]"),
    "flip": Knob(0.5, PROBABILITY, "probability of a left-right flip"),
    "jitter.probability": Knob(1.0, PROBABILITY, "probability of other grey values"),
    "jitter.brightness": Knob(0.3, PROBABILITY, "brightness factor from 1 - this to 1 + this"),
    "jitter.contrast": Knob(0.3, PROBABILITY, "contrast factor from 1 - this to 1 + this"),
    "noise.probability": Knob(1.0, PROBABILITY, "probability of noise"),
    "noise.deviation": Knob(0.03, number(0), "its standard deviation [of the full scale]"),
    "erase.probability": Knob(0.5, PROBABILITY, "probability of a box set to 0"),
    "erase.area": Knob((0.02, 0.1), each(number(0, 1), at_least=2), "smallest and largest share of the picture that is erased"),
    "erase.aspect": Knob((0.3, 3.3), each(number(0, above=True), at_least=2), "smallest and largest height over width of the box"),
    "temporal.reverse": Knob(0.5, PROBABILITY, "probability of the frames in reverse"),
    "temporal.shuffle": Knob(0.5, PROBABILITY, "probability of a few frames that change places"),
    "temporal.replace": Knob(0.5, PROBABILITY, "probability of a few frames replaced by others of the clip"),
    "temporal.most": Knob(4, integer(0), "at most so many frames change places, and are replaced"),
}

KNOBS = {
    "video.method": Knob("byol", one_of(*METHODS), "how the clip encoder learns without labels"),
    "video.plan": Knob("tiny", one_of("tiny", "darknet53"), "3-D Darknet-53: the lung paper's 133,842 parameters, or the usual widths"),
    "video.steps": Knob(200, integer(1), "optimiser steps", 20000),
    "video.clips": Knob(16, integer(2), "clips a step, each of another cine", 32),
    "video.frames": Knob(4, integer(1), "frames of a clip", 32),
    "video.stride": Knob(4, integer(1), "from one frame of a clip to the next [frames]", 1),
    "video.learning_rate": Knob(6e-3, SHARE, "Adam's rate", 3e-4),
    "video.schedule": Knob("cosine", one_of("constant", "cosine"), "the rate over the stage", "constant"),
    "video.hidden": Knob(256, integer(1), "hidden units of projector and predictor", 4096),
    "video.features": Knob(64, integer(1), "dimensions of the projection", 256),
    "video.decay": Knob(0.97, PROBABILITY, "byol, moco_v3: share of the target's weights kept at each step", 0.99),
    "video.temperature": Knob(0.1, number(0.001, 100), "simclr, moco_v3: temperature"),
    "video.temporal": Knob(True, FLAG, "views may change the order of the frames; False is the paper's ablation"),
    "video.look_every": Knob(50, integer(1), "steps between two looks at what the features know of the labels", 500),
    **{f"video.views.{name}": knob for name, knob in VIEWS.items()},
    "classify.column": Knob("class", TEXT, "column of the store's attributes.csv that holds the videos' label"),
    "classify.negative": Knob(("normal", "regular"), each(TEXT, at_least=1), "values that count as negative; all others are positive"),
    "classify.ignore": Knob(("uncertain",), each(TEXT), "values whose videos are left out"),
    "classify.shortest": Knob(2, integer(1), "videos of fewer frames are left out [frames]"),
    "classify.modes": Knob(MODES, each(one_of(*MODES), at_least=1), "random or pretrained encoder, held still or trained with the rest"),
    "classify.fractions": Knob((0.1,), each(SHARE, at_least=1), "shares of the training videos whose labels are used",
                               (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
    "classify.draws": Knob(3, integer(1), "draws of labelled videos and of random weights", 5),
    "classify.steps": Knob(100, integer(1), "optimiser steps of the modes that train the encoder", 2000),
    "classify.clips": Knob(8, integer(1), "clips a step", 32),
    "classify.learning_rate": Knob(3e-3, SHARE, "Adam's rate", 3e-4),
    "classify.schedule": Knob("constant", one_of("constant", "cosine"), "the rate over the training"),
    "classify.look_every": Knob(20, integer(1), "steps between two looks at the validation videos", 100),
    "classify.views_each": Knob(2, integer(1), "clips spread over each video whose scores are averaged", 5),
    "classify.batch": Knob(16, integer(1), "clips looked at at once"),
}  # fmt: skip
KNOBS |= {
    "saliency.videos": Knob(16, integer(1), "positive test videos that are looked into"),
    "saliency.window": Knob((0, 8, 8), each(integer(0), at_least=3), "hidden block: frames, rows, columns; 0: all of them", (0, 16, 16)),
    "saliency.stride": Knob((0, 4, 4), each(integer(0), at_least=3), "from block to block; 0: the block's own size", (0, 8, 8)),
    "saliency.hidden": Knob("negative", one_of("negative", "blur"), "what a hidden block shows: negative training videos, or its mean",
                            before="blur"),
    "saliency.others": Knob(4, integer(1), "negative: of so many of them, drawn by the seed; the map is the mean of theirs"),
    "saliency.chunk": Knob(32, integer(1), "hidden clips looked at at once"),
}  # fmt: skip
