"""The one predictor, for validation, out-of-fold and test images alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor

from compkit.heads.base import Head
from compkit.inference.tiles import tiled
from compkit.inference.tta import View, parse_view
from compkit.models.network import Network, padded
from compkit.resample import resized, within

#: Pixels of a side beyond which an image is predicted in tiles of half as much: a decoder takes
#: some 300 bytes a pixel, 5 GB for an image of 4096².
_VERY_LARGE = 2048


class Predictor:
    """Images to probability maps, averaged over TTA views.

    Parameters
    ----------
    network : Network
        In evaluation mode while predicting.
    head : Head
        Turns logits into maps and puts directed channels right after a view.
    views : sequence of str
        See `compkit.inference.tta.parse_view`.
    size : int or None
        The side that the network was trained at; maps are of that size, the longer side of images
        that are not square. None takes the images'.
    tile : int or None
        Side of the tiles that the network is shown of a larger image; None shows it whole, unless
        it is very large.
    """

    def __init__(
        self,
        network: Network,
        head: Head,
        views: Sequence[str],
        size: int | None = None,
        tile: int | None = None,
    ) -> None:
        self.network, self.head, self.size, self.tile = network, head, size, tile
        self.views = tuple(parse_view(view) for view in views)

    @torch.no_grad()
    def __call__(self, images: np.ndarray | Tensor) -> Tensor:
        """Return maps, float32 (N, M, h, w) on the network's device.

        Images are uint8 or uint16, (N, H, W) or (N, H, W, C).
        """
        device = next(self.network.parameters()).device
        x = torch.as_tensor(np.asarray(images)) if isinstance(images, np.ndarray) else images
        white = torch.iinfo(x.dtype).max
        x = x.to(device).float()
        x = x[:, None] if x.ndim == 3 else x.movedim(-1, 1)
        if self.size is not None:
            x = resized(x, within((x.shape[-2], x.shape[-1]), self.size))
        x = x / white
        total = self._view(self.views[0], x)
        for view in self.views[1:]:
            total += self._view(view, x)
        return total / len(self.views)

    def _view(self, view: View, x: Tensor) -> Tensor:
        # Resampling may overshoot a probability by a rounding error.
        return self.head.reorient(view.through(self._blended, x), view.matrix).clamp(0, 1)

    def _blended(self, x: Tensor) -> Tensor:
        large = max(x.shape[-2:]) > _VERY_LARGE
        side = self.tile or (_VERY_LARGE // 2 if large else _VERY_LARGE)
        return tiled(self._maps, x, side, self.head.known)

    def _maps(self, x: Tensor) -> Tensor:
        x, (height, width) = padded(self.network.stride, x)
        return self.head.activate(self.network(x))[..., :height, :width]


def mean_of(predictors: Sequence[Predictor], images: np.ndarray) -> np.ndarray:
    """Return the mean of networks' maps, float32 (N, M, h, w), of images of one size."""
    for predictor in predictors:
        predictor.network.eval()
    total = predictors[0](images)
    for predictor in predictors[1:]:
        total += predictor(images)
    return (total / len(predictors)).cpu().numpy()


def batches(images: Iterable[np.ndarray], most: int) -> Iterator[np.ndarray]:
    """Yield successive images of one size together, (N, H, W) or (N, H, W, C), `most` at a time."""
    for _, alike in groupby(images, key=lambda image: image.shape):
        while batch := list(islice(alike, most)):
            yield np.stack(batch)
