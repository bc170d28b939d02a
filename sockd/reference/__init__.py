"""What the file may say, for editors and for readers, from the one model of it."""
