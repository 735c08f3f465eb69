"""A job's plan, its workers, and how they share the work."""
