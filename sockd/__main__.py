"""`python -m sockd` is the sockd command."""

from sockd.cli.main import main

main()
