"""The views of `uscl.augment` in torch, whole batches at a time, for the peer of the pipeline's row. Images are float32 [N, 1, H, W].

Every change is drawn per image from the same ranges with the same chances as ours, and computed only for the images that were drawn,
which is less than we do: inside one compiled program all images pay for every change.
"""

import math

import torch
from torch.nn import functional


def uniform(n, low, high):
    return torch.empty(n, 1, 1, 1).uniform_(low, high)


def some(image, chance, change):
    """The images drawn with this chance become clip(change(image), 0, 1)."""
    drawn = torch.rand(len(image)) < chance
    if drawn.any():
        image[drawn] = change(image[drawn]).clamp(0, 1)
    return image


def shift(image, decibels):
    return torch.where(image > 0, image + decibels / 60, image)


def axes(image):
    height, width = image.shape[2:]
    return ((torch.arange(height) + 0.5) / height)[None, None, :, None], ((torch.arange(width) + 0.5) / width)[None, None, None, :]


def attenuation(image):
    return shift(image, -uniform(len(image), 0, 20) * axes(image)[0])


def gain(image):
    return shift(image, uniform(len(image), -6, 6))


def shadow(image):
    n, (y, x) = len(image), axes(image)
    fan = torch.where(uniform(n, 0, 1) < 0.5, uniform(n, 0.5, 2), torch.zeros(()))
    ray = 0.5 + (x - 0.5) / (1 + fan * y)
    across = torch.sigmoid((uniform(n, 0.05, 0.25) / 2 - (ray - uniform(n, 0, 1)).abs()) / 0.02)
    return shift(image, -uniform(n, 10, 30) * across * torch.sigmoid((y - uniform(n, 0, 0.5)) / 0.02))


def speckle(image, axial=1.0, lateral=1.5):
    n, _, height, width = image.shape
    taps = []
    for sigma in (axial, lateral):
        reach = math.ceil(3 * sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        taps.append(kernel / kernel.square().sum().sqrt())
    field = torch.randn(2 * n, 1, height + len(taps[0]) - 1, width + len(taps[1]) - 1)
    field = functional.conv2d(functional.conv2d(field, taps[0].reshape(1, 1, -1, 1)), taps[1].reshape(1, 1, 1, -1))
    level = 20 * torch.log10(field.reshape(n, 2, height, width).square().mean(1, keepdim=True).sqrt().clamp(min=1e-2))
    return shift(image, uniform(n, 0.1, 0.5) * level)


def ultrasound(image, chance=0.5):
    for change in (speckle, attenuation, shadow, gain):
        image = some(image, chance, change)
    return image


def crop_resize(image, box):
    """Each image's box [N, 4] (top, left, height, width; a negative width mirrors), resized to the image's size, bilinearly."""
    side = torch.tensor(image.shape[2:], dtype=torch.float32)
    middle, scale = (2 * box[:, :2] + box[:, 2:]) / side - 1, box[:, 2:] / side
    theta = torch.zeros(len(image), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 1], scale[:, 0], middle.flip(1)
    grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_boxes(n, height, width, smallest, flip):
    share = torch.sqrt(torch.empty(n, 1).uniform_(smallest, 1))
    box = torch.cat([torch.rand(n, 2) * (1 - share), share, share], 1) * torch.tensor([height, width] * 2)
    mirrored = torch.stack([box[:, 0], box[:, 1] + box[:, 3], box[:, 2], -box[:, 3]], 1)
    return torch.where(torch.rand(n, 1) < flip, mirrored, box)


def jitter(image, brightness=0.3, contrast=0.3, gamma=0.3):
    n, reach = len(image), -math.log1p(-gamma)
    image = image.clamp(min=0) ** torch.exp(uniform(n, -reach, reach)) + uniform(n, -brightness, brightness)
    mean = image.mean((1, 2, 3), keepdim=True)
    return (mean + (image - mean) * (1 + uniform(n, -contrast, contrast))).clamp(0, 1.5)


def view(image, smallest=0.5, flip=0.5):
    """One random view: the machine's changes, a part of the picture, other grey values; standardised at the network's door."""
    image = ultrasound(image.clone())
    image = jitter(crop_resize(image, random_boxes(len(image), *image.shape[2:], smallest, flip)))
    centred = image - image.mean((1, 2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((1, 2, 3), keepdim=True) + 1e-8)
