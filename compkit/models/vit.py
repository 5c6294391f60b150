"""Vision transformers as encoders: of images of any size, and under the decoder made for them."""

from __future__ import annotations

import math
import re
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from timm.models import register_model
from torch import Tensor, nn

from compkit.resample import resized

#: Modules of timm with plain transformers, this one beside them, and with Swin ones.
_PLAIN = ("deit", "eva", "vision_transformer", "vit")
_SWIN = ("swin_transformer", "swin_transformer_v2")

#: Encoders that were trained with every image normalised by its own mean and deviation.
PER_IMAGE = ("curia_base",)

#: What the library transformers calls the tensors of DINOv2, and what its authors do.
_RENAMED = {
    r"^.*?(?=embeddings\.|encoder\.layer\.|layernorm\.)": "",
    r"^embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"^embeddings\.position_embeddings": "pos_embed",
    r"^embeddings\.": "",
    r"^encoder\.layer\.": "blocks.",
    r"^layernorm\.": "norm.",
    r"attention\.attention\.query": "attn.qkv",
    r"attention\.output\.dense": "attn.proj",
    r"layer_scale(\d)\.lambda1": r"ls\1.gamma",
    r"mlp\.weights_in": "mlp.w12",
    r"mlp\.weights_out": "mlp.w3",
}


@register_model
def curia_base(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Return the encoder of Curia and Curia-2 B, for slices of CT and MRI, as timm makes encoders.

    A transformer of DINOv2 for patches of 16 pixels of 512².

    Source: Dancette et al. 2025, "Curia: a multi-modal foundation model for radiology", arXiv
    2509.06830.
    """
    if pretrained:
        raise OSError("raidium/curia has to be asked for there, and no library fetches it")
    return timm.create_model("vit_base_patch14_dinov2", patch_size=16, img_size=512, **settings)


def of_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a DINOv2 that transformers saved by the names that its authors give.

    Others are returned as they are. Queries, keys and values, three tensors there, become one.
    """
    query = ".attention.attention.query."
    if not any(query in name for name in state):
        return state
    renamed = {}
    for name, tensor in state.items():
        if ".attention.attention." in name:
            if query not in name:
                continue
            every = [name.replace(query, query.replace("query", k)) for k in ("key", "value")]
            tensor = torch.cat([tensor, *(state[one] for one in every if one in state)])
        for theirs, authors in _RENAMED.items():
            name = re.sub(theirs, authors, name, count=1)
        renamed[name] = tensor
    return renamed


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
