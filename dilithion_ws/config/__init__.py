"""Settings of the server: their types and defaults, and the sources they are read from."""
