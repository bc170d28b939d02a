"""What every floor stands on: addresses, errors, text, units and counters. Nothing here knows a socket."""
