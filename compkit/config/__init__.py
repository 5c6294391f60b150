"""The settings of a run."""

from compkit.config.examples import AugmentConfig, InputConfig
from compkit.config.objective import LossConfig, PartitionConfig
from compkit.config.run import FoldsConfig, InferenceConfig, MachineConfig, ModelConfig, RunConfig
from compkit.config.training import TrainingConfig, UnlabelledConfig

__all__ = [
    "AugmentConfig",
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
