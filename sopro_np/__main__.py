"""`python -m sopro_np` is `sopro-np`."""

import sys

from sopro_np.cli.main import main

sys.exit(main())
