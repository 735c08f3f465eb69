"""The output of a run: logs, trackers, timings, the start block."""
