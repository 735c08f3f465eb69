"""The catalogue: the data in the YAML files of this folder, its types, and its arithmetic, without torch."""
