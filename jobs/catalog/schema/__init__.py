"""The types of all settings in the catalogue.

Every key is declared once, in this folder, with its type, its bounds and one line of help. The YAML files,
``jobctl --set``, ``jobctl explain`` and the command lines of the trainer and of prep are all read against
these structs.
"""

from jobctl.jobs.catalog.schema.container_section import ContainerRuntime, ContainerSection
from jobctl.jobs.catalog.schema.hardware import Expected, HardwareFacts
from jobctl.jobs.catalog.schema.job import Inputs, Resources
from jobctl.jobs.catalog.schema.keys import KEYS, SECTIONS
from jobctl.jobs.catalog.schema.kubernetes_section import KubernetesSection
from jobctl.jobs.catalog.schema.login_section import LoginSection
from jobctl.jobs.catalog.schema.model import ModelConfig, RopeType
from jobctl.jobs.catalog.schema.naming import NAME, ImageVariant
from jobctl.jobs.catalog.schema.prices_section import PricesSection
from jobctl.jobs.catalog.schema.site import READ_BY_NO_JOB, SCHEDULERS, SITE_SECTIONS, Preflight, Site
from jobctl.jobs.catalog.schema.slurm_section import GpuRequest, SlurmSection
from jobctl.jobs.catalog.schema.training import (
    ActivationCheckpointing,
    AttentionBackend,
    CheckpointWhenBusy,
    Deterministic,
    Dtype,
    Kernels,
    OptimizerName,
    TrainConfig,
)

__all__ = [
    "KEYS",
    "NAME",
    "READ_BY_NO_JOB",
    "SCHEDULERS",
    "SECTIONS",
    "SITE_SECTIONS",
    "ActivationCheckpointing",
    "AttentionBackend",
    "CheckpointWhenBusy",
    "ContainerRuntime",
    "ContainerSection",
    "Deterministic",
    "Dtype",
    "Expected",
    "GpuRequest",
    "HardwareFacts",
    "ImageVariant",
    "Inputs",
    "Kernels",
    "KubernetesSection",
    "LoginSection",
    "ModelConfig",
    "OptimizerName",
    "Preflight",
    "PricesSection",
    "Resources",
    "RopeType",
    "Site",
    "SlurmSection",
    "TrainConfig",
]
