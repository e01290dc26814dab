"""``python -m buildkit_client`` is ``buildkit-client``."""

import sys

from buildkit_client.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
