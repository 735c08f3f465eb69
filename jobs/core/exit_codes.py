"""The exit codes of the in-image entry point, each with its meaning."""

EXIT_FINISHED = 0
EXIT_FAILED = 1
"""Any failure that none of the others tells."""
EXIT_CONTINUE = 200
"""Checkpointed and wants to go on: the scheduler starts the job again and does not count a failure."""
EXIT_BUSY = 75
"""Another attempt trains in the run directory (EX_TEMPFAIL of sysexits.h): this one says nothing of how the run is."""
EXIT_HARDWARE = 201
"""A GPU of this node failed: not the program's fault, and the next attempt does without the node."""
EXIT_USAGE = 2
"""Wrong usage or configuration: never retried."""
