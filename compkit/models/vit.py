"""Vision transformers as encoders: of images of any size, and under the decoder made for them."""

from __future__ import annotations

import math
from typing import Any

import segmentation_models_pytorch as smp
import timm
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from torch import Tensor

from compkit.data.resample import resized

#: Modules of timm with plain transformers, and with Swin ones.
_PLAIN = ("deit", "eva", "vision_transformer")
_SWIN = ("swin_transformer", "swin_transformer_v2")


def size_settings(encoder: str) -> dict[str, Any]:
    """Return what timm is told of an encoder, so that it takes images of any size.

    Position embeddings keep the grid of the model's own size, and are resampled for every input.
    """
    module = timm.model_entrypoint(encoder.split(".")[0]).__module__.rpartition(".")[2]
    if module in _PLAIN:  # which comes with its classifier, that a file of weights need not have
        return {"dynamic_img_size": True, "num_classes": 0}
    return {"strict_img_size": False} if module in _SWIN else {}


class Dpt(smp.DPT):
    """The dense prediction transformer, also for patches that are no power of two.

    The decoder brings the encoder's maps to 1/4, 1/8, 1/16 and 1/32 of the input; in
    segmentation-models-pytorch its maps do not fit each other for patches of 14 pixels. As in
    DINOv2 those are decoded as if they were patches of 16, and the answer is resampled to the
    input's size.

    Source: Ranftl et al. 2021, "Vision transformers for dense prediction", arXiv 2103.13413; Oquab
    et al. 2023, "DINOv2", arXiv 2304.07193, for the patches of 14.

    Parameters
    ----------
    encoder_name, **settings
        As for `smp.DPT`.

    Attributes
    ----------
    stride : int
        As of `Network`: the coarsest map is half as fine as the patches.
    """

    def __init__(self, encoder_name: str, **settings: Any) -> None:
        super().__init__(encoder_name, **settings)
        encoder = self.encoder
        patch = int(encoder.output_stride)
        decoded = 2 ** round(math.log2(patch))
        if decoded != patch:
            strides = [decoded] * len(encoder.out_channels)
            self.decoder = DPTDecoder(encoder.out_channels, strides, encoder.has_prefix_tokens)
            initialize_decoder(self.decoder)
        self.stride = 2 ** (len(encoder.out_channels) + 1) * patch // decoded

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, C, H, W)."""
        logits = self.segmentation_head(self.decoder(*self.encoder(images)))
        # CPUs do not resample 16-bit numbers.
        return resized(logits.float(), (images.shape[-2], images.shape[-1]))
