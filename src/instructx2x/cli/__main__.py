"""`python -m instructx2x.cli`, which launchers of several processes start."""

import sys

from instructx2x.cli import main

sys.exit(main())
