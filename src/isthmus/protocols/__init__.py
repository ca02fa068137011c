"""One file per protocol, all roles in it: the picture of its messages, who learns what, the message types, the roles."""
