"""Who may connect, who a client is, and what it may do: rules without sockets."""
