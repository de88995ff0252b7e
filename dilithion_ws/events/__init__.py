"""Events: one log per topic, a cursor per subscriber. No sockets, threads or wall clock."""
