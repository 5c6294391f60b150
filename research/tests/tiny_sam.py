"""Tiny networks of the real classes of Segment Anything, saved as checkpoints."""

from pathlib import Path

import torch
import transformers

#: Side of the images that they take, pixels.
SIDE = 64

PARTS = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "mlp_dim": 8}
VISION = {
    **PARTS, "output_channels": 8, "image_size": SIDE, "patch_size": 8, "global_attn_indexes": [0],
    "window_size": 0, "num_pos_feats": 4,
}  # fmt: skip
PROMPT = {"hidden_size": 8, "image_size": SIDE, "patch_size": 8, "mask_input_channels": 4}
DECODER = {**PARTS, "iou_head_hidden_dim": 8, "iou_head_depth": 2}


def tiny_sam(folder: Path) -> None:
    """Save a SAM whose random masks are large, sharp blocks, which it is sure of."""
    torch.manual_seed(2)
    config = transformers.SamConfig(
        vision_config=VISION, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER
    )
    model = transformers.SamModel(config)
    decoder = model.mask_decoder
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.5)
        for layer in (decoder.upscale_conv1, decoder.upscale_conv2):
            layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))
        for each in decoder.output_hypernetworks_mlps:
            each.proj_out.weight.mul_(1e4)
        decoder.iou_prediction_head.proj_out.weight.zero_()
        decoder.iou_prediction_head.proj_out.bias.fill_(1)
    save(model, folder)


def tiny_sam_hq(folder: Path) -> None:
    config = transformers.SamHQConfig(
        vision_config=VISION,
        prompt_encoder_config=PROMPT,
        mask_decoder_config={**DECODER, "vit_dim": 8},
    )
    save(transformers.SamHQModel(config), folder)


def tiny_sam2(folder: Path) -> None:
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1], "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16,
    }  # fmt: skip
    config = transformers.Sam2Config(
        vision_config=vision,
        prompt_encoder_config={**PROMPT, "hidden_size": 16, "patch_size": 16},
        mask_decoder_config={**DECODER, "hidden_size": 16},
    )
    transformers.Sam2Model(config).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    transformers.Sam2ImageProcessor(size=size).save_pretrained(folder)


def save(model, folder: Path) -> None:
    model.save_pretrained(folder)
    processor = transformers.SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    )
    processor.save_pretrained(folder)
