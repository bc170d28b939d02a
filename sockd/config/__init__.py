"""The configuration file: its text, its values with their places, the model that they must fit."""
