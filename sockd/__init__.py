"""One YAML file, many network endpoints, one supervised service tree."""

__version__ = "0.1.0"
