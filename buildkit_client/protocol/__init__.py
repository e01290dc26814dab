"""Sans-IO protocol cores: bytes or packets in, events out; no socket, file, clock or thread."""
