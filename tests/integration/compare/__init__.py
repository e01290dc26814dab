"""buildctl and buildkit-client with the same command lines on the same daemon, and all that comes out compared.

``case.py`` says what a case is, the modules ``cases_*`` list them by area, ``arena.py`` runs one with both tools,
``observe.py`` reads what came out. The run prints a table with a line for every case.
"""
