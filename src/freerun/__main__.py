"""Entry point of `python -m freerun`, which launchers such as torchrun need."""

import sys

from freerun.cli import main

sys.exit(main())
