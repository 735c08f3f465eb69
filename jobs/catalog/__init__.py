"""What can run: the data in the YAML files here, its types, and the torch-free arithmetic on it."""
