"""Stands before the real driver on the path of measured programs: to them it is not installed."""

raise ImportError("the developer's extras are left out")
