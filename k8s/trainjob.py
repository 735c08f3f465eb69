"""Target ``k8s-trainjob``: TrainJob of Kubeflow Trainer v2."""

from __future__ import annotations

from jobctl.k8s.target import TRAIN as TARGET

__all__ = ["TARGET"]
