"""The wire messages: one generated module per file of ``protos/``, and the pool they live in.

``scripts/gen_protos.sh`` writes every ``*_pb2.py`` and ``*_pb2.pyi``; they are never edited. Import the module you
need, for example ``from buildkit_client._proto import control_pb2``: this package imports nothing by itself, so
a caller pays only for the messages it uses. ``_pool`` and ``well_known`` are written by hand.

There are no generated service stubs: gRPC paths are plain strings (``/moby.buildkit.v1.Control/Solve``), written where
the calls are made, and the file descriptors list the same services for tests to compare with.
"""
