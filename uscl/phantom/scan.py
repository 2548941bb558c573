"""The curvilinear fan: from beams and depths to pixels. All lengths in mm, angles in radians."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fan:
    """A fan on a size x size image; x to the right, y downwards from the middle of the face, an arc of `radius`.

    The polar grid has rows at depths (i + 0.5) * depth / rows below the face, and beams at angles
    ((j + 0.5) / beams - 0.5) * angle.
    """

    size: int
    radius: float
    angle: float
    depth: float
    rows: int
    beams: int

    @property
    def sagitta(self):
        return self.radius * (1.0 - np.cos(self.angle / 2.0))  # the corners of the face lie this much above its middle

    @property
    def mm_per_pixel(self):
        return (self.depth + self.sagitta) / (self.size - 3.0)  # a black pixel above and below; sides may be cropped

    @property
    def step(self):
        return self.depth / self.rows

    def depths(self):
        return (np.arange(self.rows) + 0.5) * self.step

    def angles(self):
        return ((np.arange(self.beams) + 0.5) / self.beams - 0.5) * self.angle

    def polar_xy(self):
        """x, y of the polar samples: two arrays [rows, beams]."""
        r, angle = (self.radius + self.depths())[:, None], self.angles()[None]
        return r * np.sin(angle), r * np.cos(angle) - self.radius

    def pixel_xy(self):
        """x, y of the pixel centres: two arrays [size, size]."""
        line = (np.arange(self.size) - (self.size - 1) / 2.0) * self.mm_per_pixel
        return np.meshgrid(line, line - line[0] - self.mm_per_pixel - self.sagitta)

    def pixel_polar(self):
        """Depth below the face [mm] and angle of every pixel, and whether it lies in the fan: three [size, size]."""
        x, y = self.pixel_xy()
        depth, angle = np.hypot(x, y + self.radius) - self.radius, np.arctan2(x, y + self.radius)
        return depth, angle, (depth >= 0) & (depth <= self.depth) & (np.abs(angle) <= self.angle / 2.0)


def scan_convert(polar, fan):
    """Bilinear scan conversion of polar images [..., rows, beams] to [..., size, size]; 0 outside the fan.

    Known value: a polar image equal to its depth gives, at pixel (x, y), hypot(x, y + radius) - radius.
    """
    depth, angle, inside = fan.pixel_polar()
    row = np.clip(depth[inside] / fan.step - 0.5, 0.0, fan.rows - 1.001)
    beam = np.clip((angle[inside] / fan.angle + 0.5) * fan.beams - 0.5, 0.0, fan.beams - 1.001)
    top, left = row.astype(np.intp), beam.astype(np.intp)
    down, right = row - top, beam - left
    flat, at = polar.reshape(*polar.shape[:-2], -1), top * fan.beams + left
    upper = flat[..., at] * (1 - right) + flat[..., at + 1] * right
    lower = flat[..., at + fan.beams] * (1 - right) + flat[..., at + fan.beams + 1] * right
    image = np.zeros((*polar.shape[:-2], fan.size, fan.size))
    image[..., inside] = upper * (1 - down) + lower * down
    return image
