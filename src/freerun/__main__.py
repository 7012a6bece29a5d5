"""`python -m freerun` is `freerun`; launchers of several processes need it."""

import sys

from freerun.cli import main

sys.exit(main())
