"""What every other folder builds on: addresses, errors, text, units, counters."""
