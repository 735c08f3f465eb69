"""The targets that run a job: their registry, their protocol, and those whose script runs on this host."""
