"""The variants of the Dice loss that Kato & Hotta 2022 (arXiv 2207.07842) compare t-vMF Dice with.

Arguments are those of `compkit.losses.dice_loss`. As there, sums are over the pixels of the
whole batch, each counted with its weight; a class without a single target pixel is left out; and
where no class is present the loss is zero, with a gradient of zero. Smoothing too is that of
`dice_loss`, so that the variants differ in their formula alone.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from compkit.losses import PIXELS, class_dice, class_mean, of_logits

#: γ of `dice_loss`.
_SMOOTH = 1.0


def generalised_dice_loss(probabilities: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return ``1 - 2 Σ_c w_c Σ_n A_cn B_cn / Σ_c w_c Σ_n (A_cn + B_cn)``, w_c = 1 / (Σ_n B_cn)².

    Source: Sudre et al. 2017, arXiv 1707.03237 (GDL_v). Unlike the others it is one ratio over all
    classes, in which a class weighs by the inverse square of its true size, and is not smoothed.
    """
    size = (targets * weights).sum(PIXELS)
    # An absent class has an infinite size, and so a weight of zero.
    share = torch.where(size > 0, size, torch.inf) ** -2
    both = (probabilities + targets) * weights
    apart = both - 2 * probabilities * targets * weights
    whole = (share * both.sum(PIXELS)).sum()
    return (share * apart.sum(PIXELS)).sum() / whole.clamp_min(torch.finfo(whole.dtype).tiny)


def focal_dice_loss(
    probabilities: Tensor, targets: Tensor, weights: Tensor, beta: float = 2.0
) -> Tensor:
    """Return ``mean_c 1 - Dice_c^(1/β)``: the better a class is met, the less it counts.

    Source: P. Wang and A. C. S. Chung 2018, "Focal Dice loss and image dilation for brain tumor
    segmentation" (DLMIA), whose weights of classes are 1 here; β as Kato & Hotta's code has it.
    β = 1 is `dice_loss`.
    """
    dice = class_dice(probabilities, targets, weights)
    return class_mean(1 - dice ** (1 / beta), targets * weights)


def focal_tversky_loss(
    probabilities: Tensor,
    targets: Tensor,
    weights: Tensor,
    alpha: float = 0.7,
    beta: float = 0.3,
    gamma: float = 4 / 3,
) -> Tensor:
    """Return ``mean_c (1 - TI_c)^(1/γ)``, with ``TI = TP / (TP + α FN + β FP)``.

    Source: Abraham & Khan 2018, arXiv 1810.07842, who add classes up. TP is ``Σ_n A_cn B_cn``, FN
    ``Σ_n (1 - A_cn) B_cn``, and FP ``Σ_n A_cn (1 - B_cn)``: what is missed counts more than what is
    too much. α = β = 0.5 and γ = 1 give the Dice loss with sizes that are not squared.
    """
    a, b = probabilities * weights, targets * weights
    wrong = 2 * (alpha * (1 - probabilities) * b + beta * a * (1 - targets)).sum(PIXELS)
    tversky = wrong / (2 * (a * targets).sum(PIXELS) + wrong + _SMOOTH)
    # The power's slope is infinite at zero, where a perfect class lies: a line takes over there.
    losses = tversky * tversky.clamp_min(1e-6) ** (1 / gamma - 1)
    return class_mean(losses, b)


def noise_robust_dice_loss(
    probabilities: Tensor, targets: Tensor, weights: Tensor, gamma: float = 1.5
) -> Tensor:
    """Return ``mean_c Σ_n |A_cn - B_cn|^γ / (Σ_n A_cn² + Σ_n B_cn² + ε)``, with ε = 1.

    Source: G. Wang et al. 2020, "A noise-robust framework for automatic segmentation of COVID-19
    pneumonia lesions from CT images", IEEE TMI 39(8). γ = 2 is `dice_loss`; towards γ = 1, like the
    mean absolute error, it forgives wrong labels.
    """
    apart = ((probabilities - targets).abs() ** gamma * weights).sum(PIXELS)
    size = ((probabilities**2 + targets**2) * weights).sum(PIXELS)
    return class_mean(apart / (size + _SMOOTH), targets * weights)


generalised_dice = partial(of_logits, generalised_dice_loss)
focal_dice = partial(of_logits, focal_dice_loss)
focal_tversky = partial(of_logits, focal_tversky_loss)
noise_robust_dice = partial(of_logits, noise_robust_dice_loss)
