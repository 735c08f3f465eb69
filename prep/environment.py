"""The environment of ``python -m jobctl.prep``, set before NumPy is imported.

Prep multiplies no matrices. NumPy's library would start a thread on each core for that, in a process that has
to be free of threads when it forks its workers.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
