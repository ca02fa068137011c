"""Jobs: the file that says what runs, who learns what, who agreed to it, and the process that runs it."""
