"""An upgrade: what is installed by now replaces the running program, in the same process."""
