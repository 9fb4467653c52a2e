"""`python -m samebits.cli`."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109
    del sys.path[0]  # nothing is imported from the folder that the command happens to run in

from samebits.cli.samebits_main import main

main()
