"""Who may come in, and who may do what: rules without sockets, threads or files."""
