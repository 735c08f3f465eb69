"""The basis of all rooms: errors, exit codes, names of paths, durable writes. Imports nothing of ours."""
