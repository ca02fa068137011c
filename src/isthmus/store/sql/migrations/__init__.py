"""How the schema became what it is: run by `Database` at every start, inside its transaction."""
