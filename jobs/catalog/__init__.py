"""The catalogue: the data in the YAML files here, its types, and the arithmetic on it, without torch."""
