"""Random changes to a training image; the only room that knows albumentations."""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a new version

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402

from compkit.config import AugmentConfig  # noqa: E402


class Augment:
    """The augmentations of a run, as a function of an image and a seed alone.

    Parameters
    ----------
    config : AugmentConfig
        Which, how often, how strong.
    side : int
        Side of the images, pixels.
    crop : int or None
        Side of the random crop, pixels.
    """

    def __init__(self, config: AugmentConfig, side: int, crop: int | None) -> None:
        transforms = _geometry(config, side) + _greys(config)
        if crop is not None and crop < side:
            transforms.insert(0, A.RandomCrop(crop, crop))
        self._compose = A.Compose(transforms)

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image, labels and the mask of pixels that come from inside the image.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W)
        labels : ndarray of uint8 or uint16, shape (H, W)
        seed : int
            The same seed gives the same change, in whatever process or order.
        """
        self._compose.set_random_seed(seed)
        inside = np.ones(labels.shape, np.uint8)
        out = self._compose(image=image, masks=[labels, inside])
        labels, inside = out["masks"]
        return out["image"], labels, inside > 0


def one_thread(_worker: int) -> None:
    """Keep a loader process to one core; there is a process for each."""
    cv2.setNumThreads(0)


def _geometry(c: AugmentConfig, side: int) -> list[A.BasicTransform]:
    transforms: list[A.BasicTransform] = []
    sigma = side / 16
    if c.hflip:
        transforms.append(A.HorizontalFlip(p=c.hflip))
    if c.vflip:
        transforms.append(A.VerticalFlip(p=c.vflip))
    if c.rot90:
        transforms.append(A.RandomRotate90(p=c.rot90))
    if c.rotate or c.scale or c.shift:
        transforms.append(
            A.Affine(
                rotate=(-c.rotate, c.rotate),
                scale=(1 - c.scale, 1 + c.scale),
                translate_percent=(-c.shift, c.shift),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                p=1,
            )
        )
    if c.elastic:
        transforms.append(
            A.ElasticTransform(
                # Blurred uniform noise has the deviation 1 / (2 σ √(3 π)); alpha multiplies it.
                alpha=c.elastic * side / 128 * 2 * sigma * (3 * np.pi) ** 0.5,
                sigma=sigma,
                noise_distribution="uniform",
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                p=0.5,
            )
        )
    return transforms


def _greys(c: AugmentConfig) -> list[A.BasicTransform]:
    transforms: list[A.BasicTransform] = []
    if c.contrast:
        transforms.append(
            A.RandomBrightnessContrast(
                brightness_limit=c.contrast / 2, contrast_limit=c.contrast, p=0.75
            )
        )
    if c.blur:
        transforms.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, c.blur), p=0.3))
    if c.noise:
        transforms.append(A.GaussNoise(std_range=(0, c.noise), p=0.5))
    return transforms
