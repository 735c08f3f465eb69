"""Where a job runs: the registry of targets, their protocol, and the two targets of this machine."""
