"""`python -m danlu`, also under torchrun."""

import sys

from danlu.cli import main

sys.exit(main())
