"""Random changes to a training image, and crops of it; all that is known of albumentations."""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a new version

import albumentations as A
import cv2
import numpy as np

from compkit.config import AugmentConfig


class Augment:
    """The augmentations of a run, as a function of an image and a seed alone.

    Parameters
    ----------
    config : AugmentConfig
        Which, how often, how strong.
    side, crop : int
        Of the images and of the random crop, pixels; None crops nothing.
    focus : float
        Probability that the crop lies around a region.
    """

    def __init__(
        self, config: AugmentConfig, side: int, crop: int | None, focus: float = 0.0
    ) -> None:
        self._crop = crop
        self._focus = focus
        self._compose = A.Compose(_geometry(config, side) + _greys(config))

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, known: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image, labels and mask, cropped and changed alike.

        Parameters
        ----------
        image : ndarray of uint8, or of float32 from 0 to 1, shape (H, W) or (H, W, 3)
        known : ndarray of uint8, shape (H, W)
            The mask becomes 0 where a pixel comes from outside the image.
        labels : ndarray of uint8 or uint16, shape (H, W)
        seed : int
            The same seed gives the same change, in whatever process or order.
        """
        if self._crop is not None and min(labels.shape) < self._crop:
            image, labels, known = _enlarged(image, labels, known, self._crop)
        if self._crop is not None and max(labels.shape) > self._crop:
            # Albumentations seeds a generator with the bare seed: another stream, or the place of a
            # crop and the first change would go together.
            rng = np.random.default_rng((seed, 1))
            part = random_window(labels, self._crop, self._focus, rng)
            image, labels, known = image[part], labels[part], known[part]
        self._compose.set_random_seed(seed)
        out = self._compose(image=image, masks=[labels, known])
        labels, known = out["masks"]
        return out["image"], labels, known


def _enlarged(
    image: np.ndarray, labels: np.ndarray, known: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image that continues by reflection, as far as `side` at least, where it ends.

    Nothing is known of what is added.
    """
    down, across = (max(0, side - length) for length in labels.shape)
    borders = down // 2, down - down // 2, across // 2, across - across // 2
    # One pixel cannot be reflected.
    kind = cv2.BORDER_REFLECT_101 if min(labels.shape) > 1 else cv2.BORDER_REPLICATE
    return (
        cv2.copyMakeBorder(image, *borders, kind),
        cv2.copyMakeBorder(labels, *borders, cv2.BORDER_CONSTANT, value=0),
        cv2.copyMakeBorder(known, *borders, cv2.BORDER_CONSTANT, value=0),
    )


def random_window(
    labels: np.ndarray, side: int, focus: float, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Return a random square part of a label map (H, W).

    Parameters
    ----------
    labels : unsigned integer ndarray, shape (H, W)
        Region ids; 0 is background.
    side : int
        Of the part, pixels; at most H and W.
    focus : float
        Probability that the part lies around a random pixel of a region, as far as the image
        reaches; each region is equally likely, whatever its area.
    rng : Generator
    """
    last = np.array(labels.shape) - side
    corner = rng.integers(last + 1)
    if rng.random() < focus and len(regions := np.flatnonzero(np.bincount(labels.ravel())[1:])):
        inside = np.flatnonzero(labels == 1 + rng.choice(regions))
        centre = np.array(np.unravel_index(rng.choice(inside), labels.shape))
        corner = np.clip(centre - side // 2, 0, last)
    row, column = map(int, corner)
    return slice(row, row + side), slice(column, column + side)


def one_thread(_worker: int) -> None:
    """Keep a loader process to one core; there is a process for each."""
    cv2.setNumThreads(0)


def _geometry(c: AugmentConfig, side: int) -> list[A.BasicTransform]:
    flips = ((A.HorizontalFlip, c.hflip), (A.VerticalFlip, c.vflip), (A.RandomRotate90, c.rot90))
    transforms: list[A.BasicTransform] = [flip(p=p) for flip, p in flips if p]
    between = {"interpolation": cv2.INTER_LINEAR, "mask_interpolation": cv2.INTER_NEAREST}
    if c.rotate or c.scale or c.shift:
        transforms.append(
            A.Affine(
                rotate=(-c.rotate, c.rotate),
                scale=(1 - c.scale, 1 + c.scale),
                translate_percent=(-c.shift, c.shift),
                p=c.affine_p,
                **between,
            )
        )
    if c.elastic:
        sigma = side / 16
        # Blurred uniform noise has the deviation 1 / (2 σ √(3 π)); alpha multiplies it.
        alpha = c.elastic * side / 128 * 2 * sigma * (3 * np.pi) ** 0.5
        transforms.append(
            A.ElasticTransform(
                alpha=alpha, sigma=sigma, noise_distribution="uniform", p=c.elastic_p, **between
            )
        )
    return transforms


def _greys(c: AugmentConfig) -> list[A.BasicTransform]:
    transforms: list[A.BasicTransform] = []
    if c.contrast:
        transforms.append(
            A.RandomBrightnessContrast(
                brightness_limit=c.contrast / 2, contrast_limit=c.contrast, p=c.contrast_p
            )
        )
    if c.blur:
        transforms.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, c.blur), p=c.blur_p))
    if c.noise:
        transforms.append(A.GaussNoise(std_range=(0, c.noise), p=c.noise_p))
    return transforms
