"""What everything rests on: errors, exit codes, names of paths, durable writes. Imports nothing of ours."""
