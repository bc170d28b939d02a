"""The running program replaced by what is now installed, in the same process: a rehearsal, then exec."""
