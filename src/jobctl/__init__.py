"""jobctl: turn a choice of model, hardware, tier, stage and site into a training job.

This folder holds links to the folders at the top of the repository. It gives everything that is
installed one name: ``jobctl.trainer`` and not ``trainer``, which is another package on the index.
"""

__version__ = "0.1.0"
