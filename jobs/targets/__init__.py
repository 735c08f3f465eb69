"""The targets that run a job: their registry, their protocol, and the targets whose script runs here."""
