"""The random views of `uscl.augment.clips` by torchvision's and by kornia's functions, for the bench. Clips are float32 [B, T, H, W].

Frames lie where other pictures have channels, which both libraries move, warp and mask alike in one call; a clip whose frames are rows of
one high picture has the contrast about its own mean. Everything but the noise is drawn first, so that any peer can repeat our draws.
"""

import math
import sys

import torch

OPERATORS = []
MOST = 4  # frames shuffled, and frames replaced


def uniform(n, low, high):
    return torch.empty(n).uniform_(low, high)


def frame_order(n, frames):
    """[n, T]: reversed, then up to 4 places permuted, then up to 4 that show another place's frame; each with chance 1/2."""
    order = torch.arange(frames).repeat(n, 1)
    for index in order:
        reverse, shuffle, replace = torch.rand(3) < 0.5
        if reverse:
            index.copy_(index.flip(0))
        if shuffle:
            at = torch.randperm(frames)[: torch.randint(MOST + 1, ())]
            index[at] = index[at[torch.randperm(len(at))]]
        if replace:
            at = torch.randperm(frames)[: torch.randint(MOST + 1, ())]
            index[at] = index[(at + torch.randint(1, frames, (len(at),))) % frames]
    return order


def draw(n, frames, height, width) -> dict[str, torch.Tensor]:
    """Table 2 of the lung paper as `clip_view` reads it: angle [degrees], shift [pixels, right and down], box: top, left, height, width."""
    side = torch.sqrt(uniform(n, 0.02, 0.1) * height * width)
    root = torch.exp(uniform(n, math.log(0.3), math.log(3.3)) / 2)
    full = torch.tensor([height, width])
    size = torch.stack([side * root, side / root], 1).round().clamp(min=torch.ones(2), max=full)
    box = torch.cat([(torch.rand(n, 2) * (full - size + 1)).floor(), size], 1)
    return {
        "order": frame_order(n, frames),
        "angle": uniform(n, -10, 10),
        "scale": uniform(n, 0.8, 1.2),
        "shift": torch.stack([uniform(n, -0.1, 0.1) * width, uniform(n, -0.1, 0.1) * height], 1),
        "mirror": torch.rand(n) < 0.5,
        "brightness": uniform(n, 0.7, 1.3),
        "contrast": uniform(n, 0.7, 1.3),
        "box": torch.where(torch.rand(n, 1) < 0.5, box, torch.zeros(())).long(),
    }


def noisy(clip, deviation):
    return clip.add_(torch.randn_like(clip), alpha=deviation).clamp_(0, 1) if deviation else clip


def declare_operators():
    """A torchvision built for another torch imports once its two operators have names; none of them is called here."""
    if "torchvision" not in sys.modules and not OPERATORS:
        OPERATORS.append(torch.library.Library("torchvision", "FRAGMENT"))  # kept: they go when it does
        for name in ("nms", "qnms"):
            OPERATORS[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def by_torchvision(clip, drawn, deviation=0.03):
    """Clip by clip, for its functions take one angle, one factor and one box a call."""
    declare_operators()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    seen = torch.empty_like(clip)
    for k in range(len(clip)):
        how = {name: value[k].tolist() for name, value in drawn.items()}
        x = clip[k][drawn["order"][k]]
        x = functional.affine(x, how["angle"], how["shift"], how["scale"], [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
        x = functional.horizontal_flip(x) if how["mirror"] else x
        whole = x.reshape(1, -1, x.shape[-1])
        x = functional.adjust_contrast(functional.adjust_brightness(whole, how["brightness"]), how["contrast"]).reshape(x.shape)
        top, left, height, width = how["box"]
        x = noisy(x, deviation)
        seen[k] = functional.erase(x, top, left, height, width, torch.zeros(()), inplace=True) if height else x
    return seen


def by_kornia(clip, drawn, deviation=0.03):
    """All clips at once, each with its own numbers."""
    from kornia.enhance import adjust_brightness_accumulative, adjust_contrast_with_mean_subtraction
    from kornia.geometry.transform import get_affine_matrix2d, hflip, warp_affine

    n, frames, height, width = clip.shape
    x = clip.gather(1, drawn["order"][:, :, None, None].expand(-1, -1, height, width))
    centre = torch.tensor([[(width - 1) / 2, (height - 1) / 2]]).repeat(n, 1)
    matrix = get_affine_matrix2d(drawn["shift"], centre, drawn["scale"][:, None].repeat(1, 2), drawn["angle"])
    x = warp_affine(x, matrix[:, :2], (height, width), mode="bilinear", padding_mode="zeros")
    x = torch.where(drawn["mirror"][:, None, None, None], hflip(x), x)
    whole = x.reshape(n, 1, frames * height, width)
    whole = adjust_contrast_with_mean_subtraction(adjust_brightness_accumulative(whole, drawn["brightness"]), drawn["contrast"])
    x = noisy(whole.reshape(x.shape), deviation)
    low, high = drawn["box"][:, :2, None], (drawn["box"][:, :2] + drawn["box"][:, 2:])[:, :, None]
    rows, columns = ((torch.arange(side) >= low[:, k]) & (torch.arange(side) < high[:, k]) for k, side in enumerate((height, width)))
    return x.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)


PEERS = {"torchvision": by_torchvision, "kornia": by_kornia}
