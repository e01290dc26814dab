"""The session: services of ours that the daemon calls back into, over the ``Control.Session`` stream."""
