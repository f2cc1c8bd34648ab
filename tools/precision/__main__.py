"""python -m tools.precision MODEL ...: see study.py."""

import sys

from tools.precision.study import main

sys.exit(main())
