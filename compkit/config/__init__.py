"""The settings of a run."""

from compkit.config.run import FoldsConfig, InferenceConfig, MachineConfig, ModelConfig, RunConfig
from compkit.config.training import (
    AugmentConfig,
    ExternalConfig,
    InputConfig,
    LossConfig,
    PartitionConfig,
    TrainingConfig,
    UnlabelledConfig,
)

__all__ = [
    "AugmentConfig",
    "ExternalConfig",
    "FoldsConfig",
    "InferenceConfig",
    "InputConfig",
    "LossConfig",
    "MachineConfig",
    "ModelConfig",
    "PartitionConfig",
    "RunConfig",
    "TrainingConfig",
    "UnlabelledConfig",
]
