"""Reaching a daemon: addresses, TLS, the gRPC channel, and errors in our words.

The gRPC library writes a log of its own to stderr, also for what is an error of ours a moment later. It is switched off
here, before anything below imports the library, unless the environment already says how much it should write.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
