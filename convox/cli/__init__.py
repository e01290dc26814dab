"""The command line: a command parses, calls, and shows; what it calls lies elsewhere."""
