"""Events: one log per topic, a cursor per subscription, and shards that move the cursors. No sockets."""
