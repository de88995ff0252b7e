"""The differences between families of nodes: methods, errors, events, and their detection."""
