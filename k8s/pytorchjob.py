"""Target ``k8s``: PyTorchJob of Kubeflow's training operator."""

from __future__ import annotations

from jobctl.k8s.target import PYTORCH as TARGET

__all__ = ["TARGET"]
