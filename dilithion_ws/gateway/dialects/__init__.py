"""What differs between kinds of nodes: methods, errors, events, and how to tell the kinds apart."""
