from invariants.single_thread import one_thread  # noqa: F401
