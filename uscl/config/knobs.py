"""The table of knobs: "block.name" -> default at `quick` scale, rule, what it is with its unit, and the `paper` value where it differs."""

from dataclasses import replace

from uscl.config import anatomy, planes, video
from uscl.config.rules import FLAG, TEXT, Knob, each, integer, number, one_of

PROBABILITY = number(0, 1)
PRETRAINING = ("encoder", "decoder")

KNOBS: dict[str, Knob] = {
    "experiment": Knob("", TEXT, "name of the experiment; names the run's folder"),
    "scale": Knob("quick", one_of("quick", "paper"), "which column of this table the run started from"),
    "seed": Knob(0, integer(0, 2**31 - 1), "seed of initial weights, batches, augmentation and the choice of labels"),
    "stages": Knob(("encoder", "decoder", "finetune", "evaluate"), each(TEXT, at_least=1), "stages of the run, in order"),
    "start": Knob(
        "", TEXT, "folder of a finished run whose last stage's weights begin this one, or public ResNet weights, .safetensors; '': none"
    ),
    "start_elsewhere": Knob(
        False, FLAG, "start may name a run on another store, of any image size; not where that one shows this one's test patients"
    ),
    # --- data ---
    "data.store": Knob("", TEXT, "folder made by launch/prepare.py; empty: the embedded phantom"),
    "data.phantom": Knob(
        "kidney", one_of("kidney", "lung", "fetal"), "which phantom: kidneys with label maps, lungs with a class each, fetuses with planes"
    ),
    "data.cines": Knob(3, integer(1), "sweeps of each fetus; 3 of 24 frames meet each standard plane once"),
    "data.fold": Knob(-1, integer(-1), "fold of the store's splits.json that validates, from 0; -1: the split as it is"),
    "data.cross": Knob(0, integer(0), "cross-validate in so many parts of the patients: data.fold tests, the next validates; 0: don't"),
    "data.scanners": Knob("one", one_of("one", "many"), "phantom lungs are of one clinic's scanner, or each of another machine's"),
    "data.lungs": Knob("two", one_of("two", "three"), "classes of phantom lungs; three: b_lines too, which classify.negative then names"),
    "data.size": Knob(96, integer(32, 2048), "side of the phantom's frames [px]", paper=192),
    "data.patients": Knob(60, integer(5), "patients of the phantom, one cine each", paper=500),
    "data.frames": Knob(40, integer(4), "frames of each phantom cine", paper=200),
    "data.labelled": Knob(5, integer(1), "labelled frames of each phantom cine", paper=1),
    "data.seed": Knob(0, integer(0), "seed of the phantom"),
    "data.validation": Knob(0.15, number(0, 0.9), "share of the patients kept for validation"),
    "data.test": Knob(0.3, number(0, 0.9), "share of the patients kept for the test", paper=0.2),
    "data.split_seed": Knob(0, integer(0), "seed of the split of the phantom's patients, and of data.cross"),
    # --- model ---
    "model.width": Knob((16, 32, 64, 128, 128, 128), each(integer(1), at_least=6), "channels of the six levels"),
    "model.normalise": Knob("standardise", one_of("none", "standardise", "percentile"), "grey values at the network's door"),
    "model.bn_momentum": Knob(0.9, number(0, 0.9999), "share of the old BatchNorm statistics kept at each step", paper=0.99),
    "model.dtype": Knob("float32", one_of("float32", "bfloat16"), "type the network computes in; parameters and losses stay float32"),
    "model.remat": Knob(False, FLAG, "compute the maps inside levels and blocks again in the backward pass: less memory, slower"),
    "model.carry_statistics": Knob(
        True, FLAG, "hand BatchNorm statistics from stage to stage; False starts them anew as Chaitanya's code does"
    ),
    # --- fine-tuning ---
    "finetune.network": Knob(
        "unet",
        one_of("unet", "resnet_unet", "resnet_fpn"),
        "network that segments: Chaitanya's U-Net, or a U-Net or FPN on the ResNet of anatomy.depth and anatomy.width",
    ),
    "finetune.steps": Knob(160, integer(1), "optimiser steps", paper=10001),
    "finetune.batch": Knob(16, integer(1), "labelled frames a step", paper=20),
    "finetune.label_fraction": Knob(1.0, number(0, 1, above=True), "share of the training patients' labelled frames that is used"),
    "finetune.learning_rate": Knob(4e-3, number(0, 1, above=True), "Adam's rate", paper=1e-3),
    "finetune.schedule": Knob("cosine", one_of("constant", "cosine"), "the rate over the stage", paper="constant"),
    "finetune.freeze": Knob((), each(one_of("encoder", "decoder")), "parts whose weights stay as pretraining left them"),
    "finetune.validate_every": Knob(50, integer(1), "steps between two looks at the validation patients"),
    "finetune.loss.dice": Knob(1.0, number(0), "weight of soft Dice"),
    "finetune.loss.cross_entropy": Knob(0.0, number(0), "weight of cross-entropy"),
    "finetune.loss.speckle": Knob(0.0, number(0), "weight of the speckle loss"),
    "finetune.loss.equalise": Knob(True, FLAG, "divide each term by a running mean of its size before the weights apply"),
    "finetune.dice.background": Knob(True, FLAG, "Dice counts the background as a class"),
    "finetune.dice.absent": Knob(
        "ignore", one_of("ignore", "zero", "smooth"), "a class absent from the truth: left out, counted 0, or smoothed"
    ),
    "finetune.dice.smooth": Knob(0.0, number(0), "added above and below the fraction bar [px]; absent='smooth' wants it above 0"),
    "finetune.dice.over": Knob("image", one_of("image", "batch"), "Dice sums over each image or over the batch"),
    "finetune.speckle.form": Knob(
        "parameters", one_of("parameters", "log_parameters", "map"), "a region's (m, Omega), their logarithms, or the mean of local ones"
    ),
    "finetune.speckle.window": Knob(9, integer(3), "map: side of the window in which m and Omega are local [px]", paper=13),
    "finetune.speckle.window_mm": Knob(0.0, number(0), "map: the same [mm], where the mm of a pixel are known; 0: window counts for all"),
    "finetune.speckle.envelope": Knob(False, FLAG, "undo log compression before the moments"),
    "finetune.speckle.dynamic_range": Knob(60.0, number(10, 120), "dynamic range assumed when undoing log compression [dB]"),
    "finetune.augment.right_angles": Knob(
        False, FLAG, "also turn by multiples of 45 degrees, which no ultrasound image survives", paper=True
    ),
    "finetune.augment.elastic": Knob(5.0, number(0), "standard deviation of the elastic grid [px at a side of 192]"),
    "finetune.augment.intensity": Knob(True, FLAG, "contrast 0.8 to 1.2 and brightness +-0.1"),
    # --- nnU-Net ---
    "nnunet.preset": Knob("plain", one_of("plain", "resenc_m", "resenc_l", "resenc_xl"), "which of nnU-Net's planners plans the network"),
    "nnunet.plans": Knob("", TEXT, "a plans file, ours or nnU-Net's own, in place of planning; empty: nnunet/plans.json is made"),
    "nnunet.base": Knob(8, integer(1), "features of the first stage, where the plan is made here", paper=32),
    "nnunet.batch": Knob(0, integer(0), "patches a step; 0: as planned"),
    "nnunet.epochs": Knob(20, integer(1), "epochs; the rate falls from one to the next", paper=1000),
    "nnunet.iterations": Knob(50, integer(1), "optimiser steps an epoch", paper=250),
    "nnunet.learning_rate": Knob(1e-2, number(0, 1, above=True), "first rate of SGD with Nesterov's momentum 0.99"),
    "nnunet.validate_every": Knob(5, integer(1), "epochs between two looks at the validation patients, which choose nothing", paper=50),
    "nnunet.loss.dice": Knob(1.0, number(0), "weight of batch Dice"),
    "nnunet.loss.cross_entropy": Knob(1.0, number(0), "weight of cross-entropy"),
    "nnunet.loss.speckle": Knob(0.0, number(0), "weight of the speckle loss; its form is that of finetune.speckle"),
    "nnunet.loss.equalise": Knob(True, FLAG, "with a speckle loss, divide each term by a running mean of its size before weighing"),
    "nnunet.upright": Knob(False, FLAG, "no vertical flips, turns up to 15 degrees; False: nnU-Net's own augmentation"),
    "nnunet.folds": Knob(
        "split", one_of("split", "five", "all"), "train alone; a network a fold of train and validation; or one network on both"
    ),
    "nnunet.regions": Knob(False, FLAG, "a sigmoid for each class, which may overlap, in place of a softmax over label values"),
    "nnunet.postprocess": Knob(True, FLAG, "keep only the largest component where held-out patients gain by it"),
    # --- evaluation and logs ---
    "evaluate.bootstrap": Knob(2000, integer(100), "resamplings of the patients behind each interval"),
    "evaluate.tolerance": Knob(2.0, number(0), "distance between two borders that counts as none, for surface Dice [mm]"),
    "evaluate.batch": Knob(16, integer(1), "images predicted at once"),
    "evaluate.circumference": Knob("", TEXT, "class measured by the ellipse through its outline [mm], 'head' say; empty: none"),
    "evaluate.circumference_column": Knob("head_circumference_mm", TEXT, "column of attributes.csv that tells the same length [mm]"),
    "log.every": Knob(10, integer(1), "steps between two lines of metrics.jsonl", paper=50),
    "log.save_every": Knob(100, integer(1), "steps between two checkpoints", paper=500),
    "log.keep": Knob(2, integer(1), "newest checkpoints kept"),
}


def pair_rule(kind: str, negatives: str, sampling: str, paper: tuple[str, str, str] | None = None) -> dict[str, Knob]:
    """The block that says which pairs a contrastive stage attracts and repels, and by which loss."""
    paper_kind, paper_negatives, paper_sampling = paper or (None, None, None)
    return {
        "kind": Knob(
            kind, one_of("none", "binary", "linear", "gaussian", "sigmoid", "partition"), "which frames resemble each other", paper_kind
        ),
        "unit": Knob("frames", one_of("frames", "seconds"), "unit of margin, horizon, sigma, 1 / alpha; seconds by the store's frame_ms"),
        "margin": Knob(5.0, number(0), "binary: largest distance of a positive pair [unit]"),
        "horizon": Knob(0.0, number(0), "linear: distance at which the weight reaches 0 [unit]; 0: the length of the cine"),
        "sigma": Knob(5.0, number(0, above=True), "gaussian: exp(-d^2 / 2 sigma^2) at a distance d [unit]"),
        "alpha": Knob(0.2, number(0, above=True), "sigmoid: 2 / (1 + exp(alpha d)) at a distance d [1 / unit]"),
        "parts": Knob(4, integer(1), "partition: equal parts of a cine"),
        "negatives": Knob(negatives, one_of("other_cines", "same_cine", "all"), "what repels an anchor", paper_negatives),
        "curriculum": Knob(
            "none", one_of("none", "near_to_far", "far_to_near"), "order in which a cine's own frames begin to repel; none: all at once"
        ),
        "curriculum_until": Knob(0.5, number(0, 1, above=True), "curriculum: share of the steps after which all of them do"),
        "loss": Knob("info_nce", one_of("info_nce", "pairwise"), "which contrastive loss"),
        "temperature": Knob(0.1, number(0.001, 100), "info_nce: temperature"),
        "denominator": Knob("pair", one_of("pair", "all"), "info_nce: this positive and the negatives, or everything"),
        "push": Knob(1.0, number(0, 2, above=True), "pairwise: distance v beyond which a negative is left alone"),
        "distance": Knob("euclidean", one_of("euclidean", "cosine"), "pairwise: distance between normalised embeddings"),
        "sampling": Knob(sampling, one_of("uniform", "neighbours", "parts"), "how a step draws its frames from a cine", paper_sampling),
        "reach": Knob(5, integer(1), "neighbours: largest distance of the drawn partner [frames]"),
    }


# At paper scale the encoder attracts the same quarter of any cine (Chaitanya's G^D). In the few hundred steps of quick scale that rule
# does not leave chance on the phantom (README), so there a frame's own two views attract (G^R). The decoder's is L^R at both.
PAIRS = {
    "encoder": pair_rule("none", "other_cines", "uniform", paper=("partition", "all", "parts")),
    "decoder": pair_rule("none", "other_cines", "uniform"),
}

# quick: what led somewhere on the phantom; paper: Chaitanya's views. The decoder's are intensity only there, so position gives the answer.
VIEWS = {
    "crop": Knob("random", one_of("none", "box", "random"), "none; Chaitanya's box, 100/192 of the side; a random part of the area", "box"),
    "smallest": Knob(0.5, number(0.01, 1), "crop='random': smallest share of the area"),
    "brightness": Knob(0.3, number(0, 1), "largest shift of the grey values"),
    "contrast": Knob(0.3, number(0, 0.99), "contrast factor from 1 - this to 1 + this"),
    "gamma": Knob(0.3, number(0, 0.9), "exponent from 1 - this to 1 / (1 - this)", 0.0),
    "flip": Knob(0.5, PROBABILITY, "probability of a left-right flip", 0.0),
    "attenuation": Knob(0.5, PROBABILITY, "probability of a random attenuation with depth", 0.0),
    "gain": Knob(0.5, PROBABILITY, "probability of a random gain", 0.0),
    "shadow": Knob(0.5, PROBABILITY, "probability of an acoustic shadow", 0.0),
    "haze": Knob(0.0, PROBABILITY, "probability of haze"),
    "speckle": Knob(0.5, PROBABILITY, "probability of multiplicative speckle", 0.0),
}


def pretraining(cines: tuple[int, int], frames: tuple[int, int], steps: int) -> dict[str, Knob]:
    """What both contrastive stages have: length, batch (at quick and at paper scale) and rate."""
    return {
        "steps": Knob(steps, integer(1), "optimiser steps", 10001),
        "cines": Knob(cines[0], integer(2), "cines a step", cines[1]),
        "frames": Knob(frames[0], integer(1), "frames a cine and step", frames[1]),
        "learning_rate": Knob(1e-3, number(0, 1, above=True), "Adam's rate"),
        "schedule": Knob("cosine", one_of("constant", "cosine"), "the rate over the stage", "constant"),
    }


STAGES = {"encoder": pretraining((12, 6), (2, 4), steps=80), "decoder": pretraining((8, 10), (2, 1), steps=60)}

for _stage in PRETRAINING:
    KNOBS |= {f"{_stage}.{name}": knob for name, knob in STAGES[_stage].items()}
    KNOBS |= {f"{_stage}.pairs.{name}": knob for name, knob in PAIRS[_stage].items()}
    KNOBS |= {f"{_stage}.views.{name}": knob for name, knob in VIEWS.items()}

KNOBS |= {
    "encoder.chunks": Knob(1, integer(1), "encode the batch in so many chunks, for memory; BatchNorm then sees a chunk"),
    "encoder.streamed": Knob(False, FLAG, "compute the pairs block by block: memory grows with the batch, not with its square"),
    "decoder.views.crop": replace(VIEWS["crop"], paper="none"),
    "decoder.blocks": Knob(3, integer(1, 5), "decoder blocks that are pretrained"),
    "decoder.regions": Knob(13, one_of(9, 13), "regions of the map"),
    "decoder.neighbours": Knob(5, integer(1, 12), "nearest regions that repel"),
    "decoder.negatives": Knob("batch", one_of("image", "batch"), "neighbouring regions repel, or those and all of other images", "image"),
    "decoder.blind": Knob(False, FLAG, "put noise in place of each view: what the local loss reaches by position alone"),
    "decoder.freeze_encoder": Knob(True, FLAG, "keep the encoder's weights as the first stage left them"),
    # Stages named here follow this rule for their pairs in place of their own.
    "temporal.stages": Knob((), each(one_of(*PRETRAINING)), "stages whose pairs follow the rule of this block"),
    **{f"temporal.{name}": knob for name, knob in pair_rule("binary", "other_cines", "neighbours").items()},
}
KNOBS |= video.KNOBS | anatomy.knobs(VIEWS) | planes.KNOBS
