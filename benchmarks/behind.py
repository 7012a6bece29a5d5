"""Puts this folder behind the libraries on the path, as a file in it has the name of one."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent.resolve())
sys.path[:] = [path for path in sys.path if str(Path(path).resolve()) != HERE] + [HERE]
