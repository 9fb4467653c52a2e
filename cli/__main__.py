"""`python -m samebits.cli`."""

from samebits.cli.main import main

main()
