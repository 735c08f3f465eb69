"""Where a job runs: the registry of targets, their protocol, and the targets whose script runs here."""
