"""`python -m samebits.cli`."""

from samebits.cli.samebits_main import main

main()
