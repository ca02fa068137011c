"""The command line: one file per noun, all of them over the same client."""
