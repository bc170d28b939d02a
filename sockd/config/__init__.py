"""What was written: the file's text, its values with their places, the model they must fit."""
