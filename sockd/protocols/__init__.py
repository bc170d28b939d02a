"""What is spoken: the contract for every protocol, the registry, and the three that we ship."""
