"""The command line: a file per noun that parses, calls the public API and prints.

Nothing here imports Ray, torch, boto3, kubernetes or a verb's room before a command needs it, so
that ``eksml --help`` costs no more than Python and typer.
"""
