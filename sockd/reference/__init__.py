"""Descriptions of the configuration file, made from its model: a JSON Schema and a page."""
