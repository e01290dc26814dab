"""The benchmark suite; start it as ``benchmarks/run``. Only the standard library is used."""
