"""The basis of all other packages: errors, exit codes, paths and durable writes. It imports none of them."""
