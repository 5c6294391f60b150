"""What a training example is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputConfig:
    """What a training example is.

    Parameters
    ----------
    size
        Side in pixels that images are resized to; null keeps them as they are.
    crop
        Side in pixels of a random crop of that; null takes the whole image.
    focus
        Probability that a crop lies around a random pixel of a region, each region of the image
        equally likely; other crops lie anywhere.
    batch
        Images in a training batch.
    """

    size: int | None = None
    crop: int | None = None
    focus: float = 0.0
    batch: int = 8


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to a training image; every number 0 switches its change off.

    Parameters
    ----------
    hflip
        Probability of a left-right flip.
    vflip
        Probability of an up-down flip.
    rot90
        Probability of a random multiple of 90 degrees.
    rotate
        Largest rotation, degrees.
    scale
        Largest relative change of size.
    shift
        Largest shift, as a share of the side.
    affine_p
        Probability of rotation, change of size and shift together.
    elastic
        Standard deviation of a smooth displacement, pixels at a side of 128.
    elastic_p
        Its probability.
    contrast
        Largest relative change of brightness and contrast.
    contrast_p
        Its probability.
    noise
        Largest standard deviation of Gaussian noise, share of the grey range.
    noise_p
        Its probability.
    blur
        Largest standard deviation of a Gaussian blur, pixels.
    blur_p
        Its probability.
    """

    hflip: float = 0.5
    vflip: float = 0.0
    rot90: float = 0.0
    rotate: float = 15.0
    scale: float = 0.2
    shift: float = 0.1
    affine_p: float = 1.0
    elastic: float = 0.0
    elastic_p: float = 0.5
    contrast: float = 0.2
    contrast_p: float = 0.75
    noise: float = 0.02
    noise_p: float = 0.5
    blur: float = 0.0
    blur_p: float = 0.3
