"""A job's plan, its workers, and their division of the work."""
