"""python -m fastconv; see fastconv.cli."""

import sys

from fastconv.cli import main

sys.exit(main())
