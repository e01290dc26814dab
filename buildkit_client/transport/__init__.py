"""Reaching buildkitd: addresses, TLS, the gRPC channel, and its errors."""
