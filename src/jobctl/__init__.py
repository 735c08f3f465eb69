"""jobctl: turn a choice of model, hardware, tier, stage and site into a training job.

This folder holds links to the folders at the top of the repository. It gives everything that is
installed one name: ``jobctl.trainer`` and not ``trainer``, which is another package on the index.
"""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # python -m jobctl.…: the module is looked for, and not imported yet
    from jobctl.jobs.core.extras import explain_missing

    explain_missing()
