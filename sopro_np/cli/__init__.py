"""The command line: one file per group of commands, all arguments declared in main.py."""
