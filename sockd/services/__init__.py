"""The running tree: each endpoint's protocol and listeners, supervised, isolated from the others."""
