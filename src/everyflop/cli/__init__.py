"""The command line: one short file for each command, which parses, calls one function and prints."""
