"""Floor 0: pure facts and rules of the field; nothing here does I/O."""
