"""The knobs of the stage `planes`: stills of several classes, such as standard planes, told apart with few labels."""

from uscl.config.rules import TEXT, Knob, each, integer, one_of
from uscl.config.video import MODES, SHARE

KNOBS = {
    "planes.column": Knob("plane", TEXT, "column of the store's attributes.csv that holds the stills' class"),
    "planes.ignore": Knob((), each(TEXT), "values whose stills are left out"),
    "planes.modes": Knob(MODES, each(one_of(*MODES), at_least=1), "random or pretrained encoder, held still or trained with the rest"),
    "planes.fractions": Knob((0.1,), each(SHARE, at_least=1), "shares of the training stills whose labels are used",
                             (0.05, 0.1, 0.25, 0.5, 1.0)),
    "planes.draws": Knob(3, integer(1), "draws of labelled stills and of random weights"),
    "planes.neighbours": Knob(20, integer(0), "nearest labelled stills that vote beside each frozen mode's linear layer; 0: none"),
    "planes.steps": Knob(60, integer(1), "optimiser steps of the modes that train the encoder", 2000),
    "planes.stills": Knob(16, integer(1), "stills a step", 32),
    "planes.learning_rate": Knob(1e-3, SHARE, "Adam's rate"),
    "planes.schedule": Knob("cosine", one_of("constant", "cosine"), "the rate over the training"),
    "planes.look_every": Knob(20, integer(1), "steps between two looks at the validation stills", 100),
    "planes.batch": Knob(32, integer(1), "stills looked at at once"),
}  # fmt: skip
