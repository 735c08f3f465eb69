"""Target ``k8s``: PyTorchJob of Kubeflow's training operator."""

from __future__ import annotations

from k8s.target import PYTORCH as TARGET

__all__ = ["TARGET"]
