"""What there is in a body, what of it is labelled, and how it looks in grey."""

from __future__ import annotations

from dataclasses import dataclass

#: Labelled in training and test.
LABELLED = (
    "aorta", "back muscle", "bladder", "colon", "duodenum", "femur", "gallbladder",
    "gluteus maximus", "gluteus medius", "hip bone", "iliac artery", "kidney", "lesion", "liver",
    "lung", "myocardium", "oesophagus", "pancreas", "rectum", "sacrum", "small bowel", "spleen",
    "stomach", "vena cava", "ventricle", "vertebra",
)  # fmt: skip
#: Visible in every split, labelled in the test only.
TEST_ONLY = ("adrenal gland", "psoas", "prostate or uterus", "thigh muscle")
#: Visible, never labelled.
NEVER = (
    "body wall", "cyst", "diaphragm", "disc", "gluteus minimus", "iliac vein", "jejunum",
    "lymph node", "mesenteric vessel", "obturator", "portal vein", "pubis", "quadratus",
    "renal sinus", "rib", "skin", "spinal canal", "sternum", "subcutaneous fat", "table",
    "visceral fat",
)  # fmt: skip
#: Every kind; its position here, plus one, is its number in a map of kinds.
KINDS = (*LABELLED, *TEST_ONLY, *NEVER)
KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS, start=1)}


@dataclass(frozen=True)
class Look:
    """Grey value of a tissue: mean, texture at three scales, and what contrast agent adds.

    Attributes
    ----------
    grey : float
        Mean on the scale of the image, 0..255; below 0 is air that the window cuts off.
    fine, mid, coarse : float
        Standard deviation of the texture at about 1/170, 1/45 and 1/12 of the image.
    uptake : float
        Grey values added when the patient was given the most contrast agent.
    """

    grey: float
    fine: float = 3
    mid: float = 2
    coarse: float = 2
    uptake: float = 0


LOOKS: dict[str, Look] = {
    "air": Look(-60, 0, 0, 0),
    "table": Look(75, 0, 0, 0),
    "skin": Look(96, 4, 4, 0),
    "fat": Look(45, 3, 3, 3),
    "visceral fat": Look(47, 6, 7, 4),
    "muscle": Look(107, 6, 4, 4, 5),
    "fatty muscle": Look(99, 12, 8, 5, 5),
    "liver": Look(115, 3, 2, 3, 24),
    "spleen": Look(113, 3, 3, 2, 28),
    "cortex": Look(108, 3, 3, 2, 62),
    "medulla": Look(104, 4, 5, 2, 38),
    "gallbladder": Look(88, 2, 2, 2),
    "pancreas": Look(102, 9, 7, 3, 20),
    "gland": Look(104, 5, 4, 3, 14),
    "artery": Look(106, 2, 2, 2, 95),
    "vein": Look(105, 2, 2, 3, 55),
    "blood": Look(106, 2, 3, 4, 80),
    "bowel wall": Look(107, 4, 4, 3, 20),
    "chyme": Look(95, 4, 9, 8, 4),
    "contrast drink": Look(170, 6, 18, 8),
    "stool": Look(78, 26, 36, 8),
    "feathers": Look(108, 16, 13, 5, 22),
    "gas": Look(-60, 0, 0, 0),
    "urine": Look(92, 2, 2, 2),
    "lesion": Look(92, 4, 6, 4, 14),
    "cyst": Look(83, 2, 2, 1),
    "node": Look(103, 3, 3, 2, 15),
    "bone": Look(238, 14, 8, 4),
    "marrow": Look(150, 17, 13, 6),
    "disc": Look(122, 4, 5, 3),
    "cord": Look(96, 3, 3, 2),
    "lung": Look(-22, 9, 10, 8),
    "lung vessel": Look(85, 6, 6, 2, 20),
}
LOOK_NUMBER = {name: number for number, name in enumerate(LOOKS)}
