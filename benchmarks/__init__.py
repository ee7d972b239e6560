"""The figures dataflow is held to, beside hand-written code and its peers."""
