"""`python -m reports …` is `recis …`, from a checkout without installation."""

import sys

from reports.cli import main

sys.exit(main())
