"""What a run tells: logs, trackers, timings, the start block."""
