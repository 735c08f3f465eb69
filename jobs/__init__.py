"""jobctl: turn a choice of model, hardware, tier, stage and site into a training job."""

__version__ = "0.1.0"
